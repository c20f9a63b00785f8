"""Topics of the instruction suite: request | two words a natural answer can hold | a word it can do without.

None of the requests is asked in the training rows.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Topic:
    """A request and the words that its constraints may ask for."""

    request: str
    words: tuple[str, str]
    avoid: str


TOPICS = """
Describe a foggy harbour.|boat|mist|grey
What does a postman carry?|letters|bag|stamp
How do I sharpen a pencil?|blade|turn|wood
Tell me something about kangaroos.|jump|pouch|Australia
Explain what a shadow is.|light|dark|sun
Give me a reason to wake up early.|quiet|morning|alarm
What is a library card good for?|borrow|books|read
Suggest a game for two children.|hide|count|ball
How do I peel an orange?|skin|thumb|knife
Write about a forgotten umbrella.|rain|train|lost
Describe a campfire.|flames|smoke|warm
Why do dogs wag their tails?|happy|feel|dog
What should a first-aid box contain?|plaster|bandage|blood
Tell me about whales.|ocean|breathe|fish
How do I fold a shirt?|sleeves|flat|iron
What makes a joke funny?|surprise|laugh|people
Write about a night train.|window|sleep|dark
Describe the smell of a bakery.|bread|sweet|oven
Why is handwriting useful?|pen|notes|paper
How do I choose a good melon?|heavy|smell|ripe
What does a judge do?|court|fair|law
Tell me about ants.|colony|strong|insect
Suggest a song to sing in the car.|everyone|road|music
How do I make a paper boat?|fold|paper|water
Explain what a recipe is.|steps|food|cook
Describe a sleepy cat.|paws|sofa|fur
What can I give a friend who is moving away?|photo|letter|goodbye
How do I get rid of a hiccup?|breath|water|sugar
Write about a broken clock.|hands|time|old
Why do we shake hands?|greet|trust|hand
What is a glacier?|ice|slow|cold
How do I store potatoes?|dark|cool|fridge
Tell me about parrots.|feathers|talk|bird
Describe a windy hill.|grass|hat|strong
Give a tip for crossing a busy road.|look|wait|car
What do carpenters make?|tables|wood|nail
How can I remember names?|repeat|face|forget
Write about the last day of school.|summer|friends|teacher
Why do we sneeze?|nose|dust|ill
What is a compass?|north|needle|map
How do I clean muddy shoes?|brush|dry|dirty
Describe a crowded tram.|doors|seat|people
Tell me about foxes.|tail|forest|red
What is the use of a map?|roads|find|lost
How do I write a shopping list?|kitchen|need|buy
Suggest a name for a toy shop.|name|play|fun
Why do babies cry?|hungry|tired|loud
What is a harvest?|field|autumn|farmer
How do I stay cool in a heat wave?|shade|drink|hot
Write about a secret garden.|gate|roses|wall
Describe your ideal bench.|tree|view|sit
What does an architect do?|houses|draw|building
How do I learn to whistle?|lips|blow|tongue
Tell me about frogs.|pond|jump|green
Why do we wear helmets?|head|safe|accident
What is a proverb?|wise|saying|old
How do I wrap a present?|ribbon|paper|tape
Write about a visit to the dentist.|chair|teeth|pain
Describe an autumn park.|leaves|bench|yellow
Give a reason to keep a promise.|trust|word|lie
What is a lullaby?|song|sleep|child
How do I boil rice?|pot|water|salt
Tell me about tigers.|stripes|hunt|cat
Why do we have holidays?|rest|family|work
What do tailors do?|cloth|sew|needle
How do I find a good hiking path?|map|signs|lost
Write about two brothers and a kite.|wind|string|sky
Describe a village fair.|music|cakes|noise
What is a fable?|animals|lesson|story
How do I catch the waiter's eye?|smile|hand|shout
Tell me about snails.|shell|slow|slime
Why do some people collect stamps?|countries|small|money
What is a waterfall?|river|rocks|high
How do I carry a heavy box?|knees|back|lift
Write about an empty theatre.|stage|seats|silent
Describe a cup of hot chocolate.|cream|warm|sweet
What does a translator do?|languages|text|word
How do I keep bread fresh?|bag|box|dry
Tell me about swallows.|fly|nest|bird
Why do we put salt on icy roads?|ice|melt|winter
What is a ferry?|cars|water|ship
How do I set a table?|fork|plates|spoon
Write about a boy and a snowman.|snow|carrot|cold
Describe a quiet beach.|waves|sand|blue
Give a tip for a long flight.|walk|water|plane
What is a hobby?|enjoy|free|job
How do I mend a sock?|thread|needle|hole
Tell me about donkeys.|ears|patient|grey
Why do birds sing?|spring|mate|loud
What do pilots do before a flight?|check|weather|fly
How do I plan a class trip?|date|bus|money
Write about the first day in a new job.|nervous|desk|boss
Describe a bowl of vegetable soup.|carrots|steam|salt
What is a marathon?|run|long|race
How do I speak more clearly?|slowly|mouth|fast
Tell me about bats.|night|wings|blind
Why do ships have anchors?|chain|stay|iron
What is a diary entry?|day|write|secret
How do I cut an onion without tears?|sharp|cold|cry
Write about an honest thief.|returned|purse|police
Describe a stormy night.|thunder|windows|rain
What does a baker do at four in the morning?|dough|oven|sleep
How do I comfort a sad friend?|listen|hug|cry
Tell me about sunflowers.|yellow|seeds|tall
Why do we need street lamps?|night|safe|dark
What is an echo?|sound|wall|loud
How do I get a stain out of a shirt?|soap|cold|dirty
Write about grandfather's watch.|pocket|ticking|gold
Describe a spring meadow.|flowers|bees|green
Give a reason to learn to swim.|safe|water|drown
What is a treasure map?|island|cross|pirate
How do I feed garden birds?|seeds|winter|cat
Tell me about deer.|forest|shy|horns
Why do people paint pictures?|colours|feelings|art
What do you find in a toolbox?|hammer|screws|metal
How do I make lemonade?|lemons|sugar|sweet
Write about a shy giant.|mountain|children|big
Describe an old castle.|walls|tower|king
What is a sequel?|story|second|film
How do I end a phone call politely?|thank|later|bye
Tell me about hedgehogs.|spines|night|small
Why do onions grow under the ground?|bulb|soil|dirt
What does a conductor do in an orchestra?|music|hands|stick
How do I ride a horse safely?|helmet|calm|fall
Write about a lost mitten.|snow|hand|red
Describe a flea market.|old|coins|cheap
What is a raincoat made for?|dry|rain|wet
How do I tell a good bedtime story?|voice|hero|long
"""


def topics() -> list[Topic]:
    """All topics in the order of the text."""
    rows = [line.split("|") for line in TOPICS.strip().split("\n")]
    return [Topic(request, (one, two), avoid) for request, one, two, avoid in rows]
