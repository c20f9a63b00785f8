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
    "pa": r"[\u0a00-\u0a7f]",
    "gu": r"[\u0a80-\u0aff]",
    "ta": r"[\u0b80-\u0bff]",
    "te": r"[\u0c00-\u0c7f]",
    "kn": r"[\u0c80-\u0cff]",
    "ml": r"[\u0d00-\u0d7f]",
    "th": r"[\u0e00-\u0e7f]",
}
# Languages that share a script: (script, language, letters that the script's first language does without).
LETTERS = (
    ("ru", "uk", "іїєґ"),
    ("ar", "ur", "ٹڈڑےں"),
    ("ar", "fa", "پچژگک"),
)
# ... and function words that it does without.
WORDS = (
    ("hi", "mr", "आहे आणि आहेत होते नाही करा मध्ये साठी तुम्ही आम्ही माझे"),
    ("hi", "ne", "छ छन् र हुन् पनि गर्न लागि मेरो हामी तपाईं भएको यो थियो"),
    ("ru", "bg", "е са се ще че със това като има бъде във което който"),
)
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
    "fi": "ja on ei se että oli hän ovat kun myös mutta niin kuin tai jos voi olla sen minä sinä mikä tämä joka ole",
    "sw": "na ya wa kwa ni katika za la kama hii hiyo yake yangu cha au lakini pia sana kuwa mtu watu huu hizi wako",
    "vi": "và là của có một không cho được những trong các với người này để đã khi tôi bạn như rất về sẽ ra",
    "pl": "i w na z do się nie jest to że o jak za po są przez dla od ale czy może być tak jego było lub",
    "tr": "ve bir bu için ile da de çok ne gibi daha olarak var ama kadar olan ben sen değil mi sonra en her",
    "sv": "och att det i en som är på för med av den inte till ett om har jag du men så vi",
}
NAMES = {
    "english": "en", "german": "de", "french": "fr", "spanish": "es", "italian": "it", "portuguese": "pt",
    "dutch": "nl", "swedish": "sv", "japanese": "ja", "chinese": "zh", "korean": "ko", "russian": "ru",
    "punjabi": "pa", "gujarati": "gu", "telugu": "te", "kannada": "kn", "malayalam": "ml", "ukrainian": "uk",
    "urdu": "ur", "persian": "fa", "marathi": "mr", "nepali": "ne", "bulgarian": "bg", "finnish": "fi",
    "swahili": "sw", "vietnamese": "vi", "polish": "pl", "turkish": "tr",
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
            return _of_script(code, text)
    words = re.findall(r"[^\W\d_]+", text.lower())
    counts = Counter({code: sum(w in known for w in words) for code, known in _WORDS.items()})
    (best, hits), (_, second) = counts.most_common(2)
    return best if words and hits > second and hits >= 0.15 * len(words) else ""


def _of_script(first: str, text: str) -> str:
    """Which of the languages of a script: the first one, unless another's letters or words are common."""
    words = [w.strip("।,.!?;:\"'()«»") for w in text.lower().split()]  # vowel signs are no letters to a pattern
    for script, language, letters in LETTERS:
        if script == first and sum(text.count(c) for c in letters) >= 0.01 * len(text):
            return language
    shares = {language: sum(w in known.split() for w in words) for s, language, known in WORDS if s == first}
    best = max(shares, key=shares.__getitem__, default="")
    return best if best and shares[best] >= 0.08 * len(words) and words else first
