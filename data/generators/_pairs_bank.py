"""Questions with short answers of two sentences, and small word lists, for the generated preference pairs."""

QUESTIONS: list[tuple[str, str]] = [
    (
        "Why does bread go stale?",
        "The starch in bread slowly hardens as water moves out of it. Warming a slice softens it again for a while.",
    ),
    (
        "My cut flowers wilt so fast. What can I do?",
        "Cut the stems at a slant and change the water every two days. Keep the vase away from sunny windows.",
    ),
    ("What is a peninsula?", "A peninsula is land with water on most of its sides. Italy is a well-known example."),
    (
        "why do cats purr",
        "Cats often purr when they feel safe and content. They may also purr to calm themselves when they are hurt.",
    ),
    (
        "How can I make a small kitchen feel bigger?",
        "Keep the counters clear and use light colors. Open shelves and good lamps help too.",
    ),
    (
        "What does a compass do?",
        "A compass shows which way is north. Its needle is a small magnet that follows the "
        "magnetic field of the Earth.",
    ),
    (
        "Give me a tip for learning new words.",
        "Write five words on cards and test yourself at breakfast. Use each of them once in a sentence that day.",
    ),
    (
        "Why does a match need a referee?",
        "A referee makes sure that the players follow the rules. The referee also decides when play stops and starts.",
    ),
    (
        "Why do we have leap years?",
        "The Earth needs a bit more than 365 days to go around the Sun. An extra day every "
        "four years keeps the calendar in step.",
    ),
    (
        "How should I store potatoes?",
        "Keep them in a cool, dark place with some air. Light turns them green, and a fridge makes them sweet.",
    ),
    (
        "what is a harbor",
        "A harbor is a sheltered place where ships can stay. Walls or natural land protect it from big waves.",
    ),
    (
        "How do I start running?",
        "Begin with one minute of slow running and two minutes of walking. Repeat that for "
        "twenty minutes, three times a week.",
    ),
    (
        "What makes a rainbow appear?",
        "Drops of water bend sunlight and split it into colors. You see it when the Sun "
        "is behind you and rain is in front.",
    ),
    (
        "Why is sleep good for memory?",
        "While we sleep, the brain sorts what we learned in the day. Without enough rest, new facts fade faster.",
    ),
    (
        "Tell me what a recipe is for.",
        "A recipe tells you how to cook a dish. It lists what you need and the steps in order.",
    ),
    (
        "How do I polish leather shoes?",
        "Brush off the dirt and rub in a little polish with a cloth. Let it dry and "
        "then brush until the leather shines.",
    ),
    ("What do owls eat?", "Most owls eat mice and other small animals. They swallow small prey whole."),
    (
        "why does honey last so long",
        "Honey holds very little water, so germs can hardly grow in it. It is also slightly acid.",
    ),
    (
        "How can I be on time more often?",
        "Plan to arrive ten minutes early and get your things ready the night before. Set a second alarm for leaving.",
    ),
    (
        "What is a glacier?",
        "A glacier is a huge body of ice that moves slowly downhill. It forms where more snow falls than melts.",
    ),
    (
        "Why do drums make a sound?",
        "Hitting the skin of a drum makes it shake. The shaking pushes the air, and we hear it as sound.",
    ),
    (
        "What should I bring to a dinner at a friend's home?",
        "Bring a small gift such as flowers or a dessert. Ask first if your friend needs anything.",
    ),
    (
        "How do I stop a door from sticking?",
        "Find the spot that rubs and sand it a little. Rubbing a candle on the edge helps as well.",
    ),
    ("What is an orchard?", "An orchard is a field planted with fruit trees. Apples and cherries often grow in one."),
    (
        "why is the ocean salty",
        "Rivers carry tiny amounts of salt from rocks to the sea. Water leaves by drying into "
        "the air, but the salt stays.",
    ),
    (
        "How do I write a good title?",
        "Use a few plain words that say what the text is about. Try three ideas and pick the one you would click on.",
    ),
    (
        "What does a baker do at night?",
        "Many bakers mix and shape dough while others sleep. That way the bread is fresh in the morning.",
    ),
    (
        "Why do ducks stay dry?",
        "Ducks spread oil from a gland over their feathers. The oil keeps the water from soaking in.",
    ),
    (
        "How do I peel a mango?",
        "Cut the two sides off along the flat stone. Score the flesh in squares and turn the skin inside out.",
    ),
    (
        "What is a diary good for?",
        "A diary helps you sort your thoughts and remember small events. Reading it years later can be a joy.",
    ),
    (
        "How does a candle burn?",
        "The flame melts the wax, and the wick draws it up. The hot wax turns to gas, and that gas burns.",
    ),
    (
        "What is a good first instrument for a child?",
        "A recorder or a small keyboard is easy to start with. Let the child try several and choose.",
    ),
    (
        "why do some trees lose their leaves",
        "Leaves would lose too much water and freeze in winter. Dropping them saves the tree's strength until spring.",
    ),
    (
        "How do I make tea less bitter?",
        "Use water that is a little cooler and take the leaves out after three minutes. A slice of lemon helps too.",
    ),
    (
        "What is a lighthouse for?",
        "A lighthouse shows ships where the coast or rocks are. Its bright light turns so "
        "that it can be told from others.",
    ),
    (
        "How can I remember to drink water?",
        "Put a full glass next to your keyboard or bed. Drink a few sips each time you stand up.",
    ),
    (
        "Why do stars twinkle?",
        "Their light passes through moving air before it reaches us. The air bends it a little "
        "each moment, so the star seems to flicker.",
    ),
    (
        "What is a vowel sound?",
        "A vowel is made with the mouth open and the voice on. The middle sound in 'cat' is one.",
    ),
    (
        "How do I choose a ripe melon?",
        "Pick one that feels heavy and smells sweet at the end. A dull sound when you tap it is a good sign.",
    ),
    ("What does a tailor do?", "A tailor makes clothes and changes them to fit. Shortening trousers is a common job."),
    ("why do people shake hands", "It is an old sign of peace and trust. It showed that the hand held no weapon."),
    (
        "How do I get a song out of my head?",
        "Sing it to the end once, or play a different song. Chewing gum also helps some people.",
    ),
    (
        "What is frost?",
        "Frost is a thin layer of ice on cold surfaces. It forms when water in the air freezes onto them.",
    ),
    (
        "How do worms help the soil?",
        "Worms dig tunnels that let in air and water. They also turn dead leaves into food for plants.",
    ),
    (
        "What is the use of a thesaurus?",
        "A thesaurus lists words with similar meanings. It helps writers to find a better word.",
    ),
    (
        "Why do we yawn?",
        "Nobody knows for certain why we yawn. It often happens when we are tired or see someone else do it.",
    ),
    (
        "How do I save money on food?",
        "Plan your meals for the week and shop with a list. Cook large pots and freeze some of it.",
    ),
    (
        "What is a ferry?",
        "A ferry is a boat that carries people, and often cars, across water. It goes back and forth "
        "on the same route.",
    ),
    (
        "how do bees find flowers",
        "Bees see bright colors and smell the nectar. They also dance to show other bees the way.",
    ),
    ("What should a thank-you card say?", "Name the gift and say how you will use it. Close with a warm wish."),
    (
        "Why does metal feel cold?",
        "Metal carries heat away from your hand quickly. Wood at the same temperature feels warmer.",
    ),
    (
        "How can I help a shy guest?",
        "Introduce the guest to one friendly person and find a topic they share. A small "
        "task such as pouring drinks can help.",
    ),
    ("What is an atlas?", "An atlas is a book of maps. It shows countries, rivers, mountains, and cities."),
    (
        "Why do onions have layers?",
        "The layers are thick leaves that store food. The plant uses it to grow again in spring.",
    ),
    (
        "How do I take care of a wool sweater?",
        "Wash it by hand in cool water with mild soap. Dry it flat so that it keeps its shape.",
    ),
    ("What is a shadow?", "A shadow is a dark shape made when something blocks light. It is long when the Sun is low."),
    ("why do fish have scales", "Scales protect the skin of a fish. They also help it to move smoothly in water."),
    (
        "How do I plan a small garden?",
        "Watch where the sun falls during the day and start with three easy plants. Leave room to walk between them.",
    ),
    (
        "What is a museum guide?",
        "A museum guide walks with visitors and explains what they see. Good guides also tell small stories.",
    ),
    (
        "How do I calm a crying baby?",
        "Check for hunger, a wet diaper, or cold. Then hold the baby close and rock it gently.",
    ),
    (
        "What is a good hobby for rainy days?",
        "Drawing needs only paper and a pencil. Baking fills the house with a nice smell too.",
    ),
    (
        "Why do clocks have two hands?",
        "The short hand shows the hour, and the long hand shows the minutes. Together they tell the exact time.",
    ),
    (
        "how do i keep mosquitoes away",
        "Empty any standing water and wear long sleeves in the evening. A fan also keeps them off.",
    ),
    ("What is a proverb?", "A proverb is a short saying that gives advice. 'Look before you leap' is one."),
    (
        "How does a scarf keep you warm?",
        "A scarf traps a layer of still air around your neck. Your body warms this air and loses less heat.",
    ),
    (
        "What makes a good neighbor?",
        "A good neighbor is friendly and keeps noise low at night. Lending a hand now and then helps as well.",
    ),
    (
        "Why do eggs harden when cooked?",
        "Heat makes the proteins in the egg join into a firm net. They can't go back after that.",
    ),
    ("How do I practice a speech?", "Say it out loud three times and time yourself. Then give it once to a friend."),
    ("What is a meadow?", "A meadow is a field of grass and wild flowers. Many insects and birds live there."),
    (
        "why is exercise fun in a group",
        "Others cheer you on and make the time pass quickly. You are also less likely to skip a day.",
    ),
    (
        "How do I choose a pillow?",
        "People who sleep on their side need a thicker one than people who sleep on their "
        "back. Your neck should stay straight.",
    ),
    ("What is a canal?", "A canal is a waterway dug by people. Boats travel on it, or farmers lead water to fields."),
    (
        "Why do birds sing in the morning?",
        "They sing to hold their area and to find a mate. The air is calm then, so songs carry far.",
    ),
    (
        "How do I fix a wobbly chair?",
        "Turn it over and tighten the screws. If a leg is short, glue a small felt pad under it.",
    ),
    (
        "What is a toast at a wedding?",
        "It is a short speech with good wishes, followed by a drink. Guests raise their glasses together.",
    ),
    (
        "How can I read more books?",
        "Keep a book by your bed and read ten pages before sleep. Put it down if you do not enjoy it.",
    ),
    ("why do we blink", "Blinking spreads tears over the eye and washes out dust. It also gives the eye a tiny rest."),
    (
        "What does an umpire say when play begins?",
        "In baseball, the umpire calls 'Play ball!' Then the pitcher may throw.",
    ),
]
OBJECTS = [
    "apples", "pencils", "stickers", "cookies", "marbles", "books", "tickets", "buttons", "plums", "candles", "shells",
    "postcards", "cups", "balloons", "coins", "eggs",
]  # fmt: skip
PEOPLE = [
    "Ada", "Ben", "Cora", "Dev", "Ella", "Felix", "Grace", "Hugo", "Ivy", "Jonas", "Kira", "Leo", "Mina", "Noah",
    "Olga", "Paul", "Rosa", "Sam", "Tara", "Yusuf",
]  # fmt: skip
THINGS = {  # lists of one kind, for answers in a given shape
    "tools for a garden": ["rake", "spade", "hose", "shears", "bucket"],
    "things found in a classroom": ["desk", "board", "map", "globe", "chalk"],
    "kinds of weather": ["rain", "snow", "wind", "fog", "sunshine"],
    "parts of a tree": ["root", "trunk", "branch", "leaf", "bark"],
    "foods for breakfast": ["porridge", "toast", "yogurt", "fruit", "eggs"],
    "things to take to the beach": ["towel", "sunscreen", "hat", "water", "ball"],
    "musical instruments": ["piano", "flute", "drum", "harp", "trumpet"],
    "rooms in a house": ["kitchen", "bedroom", "bathroom", "hall", "attic"],
    "animals of the forest": ["fox", "owl", "badger", "squirrel", "hedgehog"],
    "ways to travel": ["train", "bus", "bicycle", "ferry", "plane"],
    "jobs in a hospital": ["nurse", "doctor", "cook", "cleaner", "porter"],
    "pieces of clothing": ["scarf", "coat", "shirt", "sock", "glove"],
}
