"""Which language a text is in: by its script, and for Latin letters by its commonest function words.

Good enough to notice an answer in the wrong language; the constraint checker and the data audit use it.
Left out on purpose: dialects, mixed texts, and languages whose function words are not listed (they give "").
"""

import re
from collections import Counter

SCRIPTS = {
    "ja": r"[\u3040-\u30ff]",  # kana; must come before Chinese, Japanese text has Han characters too
    "zh": r"[\u4e00-\u9fff]",
    "ko": r"[\uac00-\ud7af]",
    "ru": r"[\u0400-\u04ff]",
    "el": r"[\u0370-\u03ff]",
    "he": r"[\u0590-\u05ff]",
    "ar": r"[\u0600-\u06ff]",
    "hi": r"[\u0900-\u097f]",
    "bn": r"[\u0980-\u09ff]",
    "ta": r"[\u0b80-\u0bff]",
    "th": r"[\u0e00-\u0e7f]",
}
FUNCTION_WORDS = {
    "en": "the of and to in is that it was for on are with as his they at be this have from or had by but not what "
    "all were we when your can there a an each which she do their if will you i my then than them then out up some "
    "so no yes how about more other into could time two like would make him her its who now people long down day "
    "did get come may because very one what while also just well good me us our too only where after before over "
    "under these those",
    "de": "der die das und ist in den von zu mit sich des auf für nicht ein eine dem im es auch an als wie wir sie "
    "er ich aber oder bei nach wird sind war hat haben du mir dich gut guten gute danke bitte hallo ja nein sehr "
    "wenn um jeden tag viel alle etwas noch nur kann was heute",
    "fr": "le la les de des et est un une en que qui dans pour pas sur au avec il elle ce nous vous je plus par "
    "sont mais ou se du à c est suis es mon ma mes bonne bonjour bonsoir merci oui non très l d j n tu ils sont "
    "tous jours beaucoup bien comme fait",
    "es": "el la los las de y es un una en que por con para no se del al lo su más como pero yo muy son está o "
    "buenas buenos hola gracias sí mi tu te me hace todos mucho bien cuando tiene este esta amigo hoy",
    "it": "il lo la gli le di e è un una in che per non con si del della sono al da come ma più io anche o",
    "pt": "o a os as de e é um uma em que por com para não se do da no na mais como mas eu são está ou",
    "nl": "de het een van en is in dat op te zijn met voor niet aan er ook als maar bij of ik je wordt naar",
    "sv": "och att det i en som är på för med av den inte till ett om har jag du men så vi",
}
NAMES = {
    "english": "en", "german": "de", "french": "fr", "spanish": "es", "italian": "it", "portuguese": "pt",
    "dutch": "nl", "swedish": "sv", "japanese": "ja", "chinese": "zh", "korean": "ko", "russian": "ru",
    "greek": "el", "hebrew": "he", "arabic": "ar", "hindi": "hi", "bengali": "bn", "tamil": "ta", "thai": "th",
}  # fmt: skip
_WORDS = {code: frozenset(words.split()) for code, words in FUNCTION_WORDS.items()}


def code_of(name: str) -> str:
    """'German' or 'de' -> 'de'; an unknown name comes back in lower case."""
    return NAMES.get(name.strip().lower(), name.strip().lower())


def language_of(text: str) -> str:
    """ISO 639-1 code of the text's language, or "" when too little speaks for any.

    A script wins when it holds a fifth of the letters. Else the language whose function words are the largest share
    of the words, if that share is at least 15% (English prose has 40-50%) and no other language ties.
    """
    letters = sum(c.isalpha() for c in text)
    for code, pattern in SCRIPTS.items():
        if letters and len(re.findall(pattern, text)) >= 0.2 * letters:
            return code
    words = re.findall(r"[^\W\d_]+", text.lower())
    counts = Counter({code: sum(w in known for w in words) for code, known in _WORDS.items()})
    (best, hits), (_, second) = counts.most_common(2)
    return best if words and hits > second and hits >= 0.15 * len(words) else ""
