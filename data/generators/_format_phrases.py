"""Wordings of the constraints in formats.py: several for every kind.

The fields: n is a number, s makes a plural, rel is one of RELATIONS, and the rest belongs to the kind.
"""

RELATIONS = {
    "at_least": ("at least", "no fewer than", "a minimum of"),
    "at_most": ("at most", "no more than", "a maximum of"),
    "exactly": ("exactly", "precisely"),
}

PHRASES: dict[str, tuple[str, ...]] = {
    "keywords_include": (
        "Include the words {words}.",
        "Use these words in your answer: {words}.",
        "The words {words} must appear.",
        "Make sure to mention {words}.",
        "Please work in the following words: {words}.",
    ),
    "keyword_count": (
        'Use the word "{word}" {rel} {times}.',
        'The word "{word}" should appear {rel} {times}.',
        'Write the word "{word}" {rel} {times}.',
        'Let the word "{word}" occur {rel} {times}.',
    ),
    "words_forbidden": (
        "Do not use the word{s} {words}.",
        "Avoid the word{s} {words}.",
        "Leave out the word{s} {words}.",
        "You may not write {words}.",
        "Answer without using {words}.",
    ),
    "letter_count": (
        'The letter "{letter}" should appear {rel} {times}.',
        "Use the letter {letter} {rel} {times}.",
        "Write so that the letter {letter} occurs {rel} {times}.",
        'Your answer needs the letter "{letter}" {rel} {times}.',
    ),
    "paragraphs": (
        "Write exactly {n} paragraphs.",
        "Split the answer into {n} paragraphs with a blank line between them.",
        "Use {n} paragraphs.",
        "I want {n} short paragraphs, separated by blank lines.",
        "Answer in {n} paragraphs.",
    ),
    "words": (
        "Use {rel} {n} words.",
        "Answer with {rel} {n} words.",
        "The answer should have {rel} {n} words.",
        "Write {rel} {n} words.",
        "Length: {rel} {n} words.",
    ),
    "sentences": (
        "Answer in {rel} {n} sentence{s}.",
        "Write {rel} {n} sentence{s}.",
        "Use {rel} {n} sentence{s}.",
        "The answer should have {rel} {n} sentence{s}.",
        "Keep it to {rel} {n} sentence{s}.",
    ),
    "nth_paragraph_starts": (
        'Write {total} paragraphs and begin paragraph {n} with the word "{word}".',
        "Use {total} paragraphs. Paragraph {n} must start with the word {word}.",
        'There should be {total} paragraphs. The first word of paragraph {n} is "{word}".',
        'In {total} paragraphs, please, where number {n} opens with "{word}".',
    ),
    "postscript": (
        "Add a postscript that starts with {marker}",
        "At the end, add a postscript beginning with {marker}",
        "Finish with a line that starts with {marker}",
        "Close with a postscript marked {marker}",
    ),
    "placeholders": (
        "Use at least {n} placeholders in square brackets, such as [address].",
        "Put at least {n} placeholders like [name] in it.",
        "Leave {n} or more blanks in square brackets, for example [date].",
        "It should have at least {n} placeholders written in square brackets.",
        "Mark the parts I must fill in with square brackets, at least {n} of them.",
    ),
    "bullets": (
        "Answer with exactly {n} bullet points.",
        "Use {n} bullet points.",
        "Give me a list of {n} bullets.",
        "Write {n} bullet points that start with a dash.",
        "Put it in {n} bullet points.",
        "I would like {n} bullets, please.",
    ),
    "title": (
        "Add a title in double angle brackets, such as <<my title>>.",
        "Begin with a title like <<this>>.",
        "Put a title in << and >> at the top.",
        "Give the answer a title wrapped as <<title>>.",
        "It needs a title inside <<double angle brackets>>.",
    ),
    "choose_from": (
        "Answer with one of these: {options}.",
        "Choose one: {options}.",
        "Options: {options}. Pick one.",
        "Reply only with {options_or}.",
        "Your answer must be {options_or}.",
    ),
    "highlighted": (
        "Highlight at least {n} part{s} with stars, like *this*.",
        "Put stars around at least {n} word{s}, as in *word*.",
        "Mark {n} important part{s} like *this*.",
        "Emphasise {n} word{s} with asterisks, for example *so*.",
    ),
    "sections": (
        "Divide the answer into {n} sections marked {marker} 1, {marker} 2 and so on.",
        "Write {n} sections. Begin each with {marker} and its number.",
        "Use {n} parts, headed {marker} 1, {marker} 2 and so on.",
        "Structure it in {n} sections and start every section with {marker} X, where X is its number.",
    ),
    "json": (
        "Answer in JSON.",
        "Put the whole answer in JSON format.",
        "Return only valid JSON.",
        "Give me the answer as a JSON object.",
        "Write the answer as JSON and nothing else.",
    ),
    "json_keys": (
        "Answer in JSON with the keys {keys}.",
        "Return a JSON object with {keys}.",
        "Use JSON. The keys are {keys}.",
        "Give me valid JSON with the keys {keys}, please.",
    ),
    "two_responses": (
        "Give two different answers, separated by ******.",
        "Write two answers and put six asterisks (******) between them.",
        "I want two versions, divided by ******.",
        "Offer two different replies with the line ****** between them.",
    ),
    "all_upper": (
        "Write everything in capital letters.",
        "Use only capital letters.",
        "ANSWER IN ALL CAPS.",
        "Your whole answer should be in upper case.",
        "Reply in capitals only.",
    ),
    "all_lower": (
        "Write everything in lower case.",
        "Use only lower-case letters.",
        "no capital letters please.",
        "Your whole answer should be in small letters.",
        "Reply in lowercase, without any capital letters.",
    ),
    "capital_words": (
        "Write {rel} {n} word{s} in all capital letters.",
        "Put {rel} {n} word{s} in FULL CAPITALS.",
        "There should be {rel} {n} word{s} in capitals.",
        "Use {rel} {n} word{s} in ALL CAPS.",
    ),
    "end_phrase": (
        'End with the exact phrase "{phrase}"',
        "Finish your answer with these words: {phrase}",
        'The last words must be "{phrase}"',
        'Close with "{phrase}" and nothing after it.',
    ),
    "quotation": (
        "Put the whole answer in double quotation marks.",
        "Wrap your answer in double quotes.",
        "Start and end the answer with a double quotation mark.",
        "Answer inside double quotation marks.",
    ),
    "no_commas": (
        "Do not use any commas.",
        "Write without commas.",
        "No commas, please.",
        "Your answer must not contain a comma.",
        "Leave out all commas.",
    ),
    "language": (
        "Answer in {language}.",
        "Please reply in {language} only.",
        "Write it in {language}.",
        "Your whole answer must be in {language}.",
        "Use {language} and no other language.",
    ),
    "repeat_prompt": (
        "First repeat the request exactly, then answer it: {text}",
        "{text} Before you answer, repeat the first sentence of this message word for word.",
        "Copy this request unchanged and then answer it below.\n\n{text}",
        "Request: {text}\n\nSay the request again word for word, and only then give your answer.",
    ),
}

# More wordings of the kinds that a small model can learn: other verbs and other names for the answer.
MORE: dict[str, tuple[str, ...]] = {
    "all_upper": (
        "The complete text has to be in upper-case letters.",
        "Shout: every letter a capital.",
        "Respond with capital letters throughout.",
        "Type the response in block capitals.",
        "Make all letters of the reply upper case.",
    ),
    "all_lower": (
        "The complete text has to be in lower-case letters.",
        "Respond in small letters throughout.",
        "Capital letters are not allowed in the response.",
        "Make all letters of the reply lower case.",
        "Type everything in small letters, names too.",
    ),
    "quotation": (
        "The complete response belongs inside double quotes.",
        "Surround the full text with double quotation marks.",
        "Begin and close the response with a double quote.",
        "Quote yourself: set the entire text in double quotation marks.",
    ),
    "end_phrase": (
        'The response must finish with "{phrase}"',
        'Your final sentence has to read: "{phrase}"',
        'Stop right after the words "{phrase}"',
        'Sign off with the sentence "{phrase}"',
    ),
    "title": (
        "Put a title in double angle brackets, such as <<my day>>, above the text.",
        "The response needs a title written like <<this>>.",
        "Start with a heading between << and >>.",
    ),
    "bullets": (
        "Respond with a list of {rel} {n} bullet points that start with a dash.",
        "Structure the response as {rel} {n} lines, each a bullet starting with -.",
        "Only bullets, {rel} {n} of them, please.",
    ),
    "json": (
        "The complete response must be valid JSON.",
        "Respond with nothing but a JSON object.",
        "Wrap the full text into JSON.",
    ),
    "no_commas": (
        "The response may not have a single comma.",
        "Commas are not allowed.",
        "Avoid every comma in the text.",
    ),
    "placeholders": (
        "Include {rel} {n} blanks in square brackets, for example [date].",
        "The text needs {rel} {n} bracketed fields such as [street].",
    ),
    "postscript": (
        "Close the response with a postscript that starts with {marker}",
        "After the text, add a note that begins with {marker}",
    ),
    "sentences": (
        "The response must have {rel} {n} sentence{s}.",
        "Limit the text to {rel} {n} sentence{s}.",
    ),
    "words": (
        "The response must have {rel} {n} words.",
        "Limit the text to {rel} {n} words in all.",
    ),
    "paragraphs": (
        "The response must be made of {n} paragraphs with empty lines in between.",
        "Break the text into {n} paragraphs, an empty line after each.",
    ),
    "highlighted": (
        "Emphasise {rel} {n} phrase{s} of the response with asterisks, like *this one*.",
        "Set {rel} {n} phrase{s} between single asterisks, as in *good idea*.",
    ),
    "two_responses": (
        "Write two separate responses with ****** as the divider.",
        "Respond twice, in different words, and put ****** between both.",
    ),
    "capital_words": (
        "The response should show {rel} {n} word{s} written in ALL CAPS.",
        "Write {rel} {n} word{s} of the text in FULL CAPITALS, like THIS.",
    ),
}
PHRASES = {kind: (*phrases, *MORE.get(kind, ())) for kind, phrases in PHRASES.items()}
