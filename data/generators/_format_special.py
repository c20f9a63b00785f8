"""Requests for the three format kinds that need answers of their own: choices, placeholders and other languages."""

YES_NO = ("yes", "no", "maybe")
SIZE = ("small", "medium", "large")

# question, options, the option that answers it
CHOICES: list[tuple[str, tuple[str, ...], str]] = [
    ("Is the sun a star?", YES_NO, "yes"),
    ("Can a goldfish climb a tree?", YES_NO, "no"),
    ("Will my aunt like a blue scarf?", YES_NO, "maybe"),
    ("Is it going to rain in my street next week?", YES_NO, "maybe"),
    ("Do horses eat hay?", YES_NO, "yes"),
    ("Is lead lighter than cork?", YES_NO, "no"),
    ("Is a mouse small, medium or large?", SIZE, "small"),
    ("How big is a whale?", SIZE, "large"),
    ("What size is a needle?", SIZE, "small"),
    ("Should I put milk in the fridge?", ("I agree.", "I disagree."), "I agree."),
    ("Is it wise to drive when you are very tired?", ("I agree.", "I disagree."), "I disagree."),
    ("Salt makes tea sweeter.", ("true", "false"), "false"),
    ("A triangle has three sides.", ("true", "false"), "true"),
    ("Fish breathe with gills.", ("true", "false"), "true"),
    ("The moon is made of cheese.", ("true", "false"), "false"),
    ("Which of these can fly?", ("a swallow", "a lobster", "a mole"), "a swallow"),
    ("Which one is a vegetable?", ("apple", "carrot", "cherry"), "carrot"),
    ("Which one do you use to cut bread?", ("spoon", "knife", "cup"), "knife"),
    ("Which of these is hot?", ("ice", "snow", "fire"), "fire"),
    ("What do you wear on your feet?", ("gloves", "socks", "scarf"), "socks"),
    ("Which animal gives us wool?", ("sheep", "frog", "eagle"), "sheep"),
    ("Which month comes after May?", ("April", "June", "July"), "June"),
    ("Where would you borrow a novel?", ("bank", "library", "pharmacy"), "library"),
    ("Which is the slowest?", ("train", "snail", "horse"), "snail"),
    ("What colour is fresh snow?", ("white", "red", "brown"), "white"),
    ("Which meal comes first in the day?", ("lunch", "dinner", "breakfast"), "breakfast"),
    (
        "Could there be life on another planet?",
        ("My answer is yes.", "My answer is no.", "My answer is maybe."),
        "My answer is maybe.",
    ),
    ("Is water wet?", ("My answer is yes.", "My answer is no.", "My answer is maybe."), "My answer is yes."),
    (
        "Does a week have eight days?",
        ("My answer is yes.", "My answer is no.", "My answer is maybe."),
        "My answer is no.",
    ),
    ("Who repairs pipes?", ("a plumber", "a tailor", "a dentist"), "a plumber"),
    ("Which tool drives in a nail?", ("saw", "hammer", "brush"), "hammer"),
    ("Is this comment good or bad news: we found your cat?", ("good", "bad"), "good"),
    ("The roof fell in. Is that good or bad?", ("good", "bad"), "bad"),
    ("Which word rhymes with light?", ("lamp", "night", "dark"), "night"),
]

# request, answer; the placeholders are counted in the answer
PLACEHOLDERS: list[tuple[str, str]] = [
    ("Write an invitation to a dinner.", "Dear [name], please join us for dinner on [date]. We look forward to it."),
    ("Write a note to say I am ill.", "Dear [name], I am ill and cannot come on [day]. I am sorry for the trouble."),
    ("Draft a birthday card.", "Happy birthday, [name]! I wish you a wonderful day. Yours, [sender]"),
    (
        "Write a short message to cancel a meeting.",
        "Hello [name], I have to cancel our meeting on [date]. Could we meet on [new date] instead?",
    ),
    ("Draft an advert for a used bicycle.", "For sale: [colour] bicycle in good condition for [price]. Call [number]."),
    ("Write a sign for a lost cat.", "Lost near [street]: a cat called [name]. Please phone [number] if you see it."),
    ("Write a thank-you note for a gift.", "Dear [name], thank you so much for the [gift]. I use it every day."),
    (
        "Draft a reply to a customer.",
        "Dear [customer], thank you for your message about order [number]. We will answer by [date].",
    ),
    (
        "Write a welcome message for a new colleague.",
        "Welcome, [name]! We are glad to have you in [department]. Your desk is next to [colleague].",
    ),
    ("Write a postcard from a holiday.", "Dear [name], greetings from [place]! The [food] here is wonderful."),
    ("Draft a reminder for a dentist visit.", "Hello [name], your visit is on [day] at [time]. Please be on time."),
    ("Write a request for a day off.", "Dear [manager], may I take [date] off? [colleague] can cover my work."),
    ("Write a notice about a blocked road.", "[street] will be closed from [start] to [end]. Please use [road]."),
    (
        "Draft a message to my landlord about a leak.",
        "Dear [landlord], the tap in the [room] is leaking. Could you send somebody on [day]?",
    ),
    ("Write a wedding toast.", "Dear [bride] and [groom], may your life together be long and full of laughter!"),
    ("Write a short introduction of myself.", "My name is [name]. I live in [town] and I work as [job]."),
    ("Draft a message to a pen friend.", "Hello [name], today I visited [place]. What did you do on [day]?"),
    ("Write a get-well card.", "Dear [name], get well soon! Everyone at [school] is thinking of you."),
    ("Write a note to the milkman.", "Dear [name], please leave [number] bottles on [day]. Thank you!"),
    (
        "Draft an apology for a late parcel.",
        "Dear [customer], we are sorry that parcel [number] is late. It will reach you by [date].",
    ),
    ("Write a short school excuse.", "Dear [teacher], [child] could not come to school on [date] because of a cold."),
    ("Write an announcement for a concert.", "[band] will play at [place] on [date]. Tickets cost [price]."),
    ("Draft a club invitation.", "Join our [club] club! We meet every [day] at [time]."),
    ("Write a recipe card header.", "Recipe: [dish]. Serves [number] people. From the kitchen of [cook]."),
    ("Write a voicemail message.", "Hello, this is [name]. Please leave a message or call me after [time]."),
    ("Draft a note about a found wallet.", "Found on [day]: a wallet near [place]. Ask for [name] at the desk."),
    ("Write a congratulation for a new job.", "Dear [name], congratulations on your new job at [company]!"),
    ("Draft a booking request for a hotel.", "Dear [hotel], I would like a room for [number] nights from [date]."),
    ("Write a farewell card.", "Goodbye, [name]! We will miss you in [team]. Good luck in [city]!"),
    ("Write a tidy label for a parcel.", "To: [name], [street], [town]. From: [sender]."),
]

# request, answer by language
LANGUAGES: list[tuple[str, dict[str, str]]] = [
    (
        "Say hello and ask how I am.",
        {
            "Spanish": "Hola, es un gusto verte. ¿Cómo estás hoy?",
            "French": "Bonjour, je suis content de te voir. Est-ce que tu vas bien aujourd'hui ?",
            "German": "Hallo, schön dich zu sehen. Wie geht es dir heute?",
            "Italian": "Ciao, sono contento di vederti. Come stai oggi?",
        },
    ),
    (
        "Describe a dog in one sentence.",
        {
            "Spanish": "El perro es un animal fiel que vive con las personas.",
            "French": "Le chien est un animal fidèle qui vit avec les gens.",
            "German": "Der Hund ist ein treues Tier, das mit den Menschen lebt.",
            "Italian": "Il cane è un animale fedele che vive con le persone.",
        },
    ),
    (
        "What is the weather like in winter?",
        {
            "Spanish": "En invierno hace frío y los días son cortos.",
            "French": "En hiver, il fait froid et les jours sont courts.",
            "German": "Im Winter ist es kalt und die Tage sind kurz.",
            "Italian": "In inverno fa freddo e le giornate sono corte.",
        },
    ),
    (
        "Give one tip for staying healthy.",
        {
            "Spanish": "Camina un poco todos los días y bebe mucha agua.",
            "French": "Marche un peu tous les jours et bois beaucoup d'eau.",
            "German": "Geh jeden Tag ein wenig spazieren und trink viel Wasser.",
            "Italian": "Cammina un po' tutti i giorni e bevi molta acqua.",
        },
    ),
    (
        "What do people eat for breakfast?",
        {
            "Spanish": "Muchas personas comen pan con mantequilla y toman café con leche.",
            "French": "Beaucoup de gens mangent du pain avec du beurre et boivent du café.",
            "German": "Viele Leute essen Brot mit Butter und trinken Kaffee.",
            "Italian": "Molte persone mangiano il pane con il burro e bevono il caffè.",
        },
    ),
    (
        "Thank a friend for help.",
        {
            "Spanish": "Muchas gracias por tu ayuda. Eres un buen amigo.",
            "French": "Merci beaucoup pour ton aide. C'est un plaisir de t'avoir pour ami et je pense à toi.",
            "German": "Vielen Dank für deine Hilfe. Du bist ein guter Freund.",
            "Italian": "Grazie mille per il tuo aiuto. Sei un buon amico.",
        },
    ),
    (
        "Tell me what a library is.",
        {
            "Spanish": "Una biblioteca es un lugar donde se pueden leer y pedir libros.",
            "French": "Une bibliothèque est un lieu où l'on peut lire et emprunter des livres.",
            "German": "Eine Bibliothek ist ein Ort, an dem man Bücher lesen und leihen kann.",
            "Italian": "Una biblioteca è un luogo dove si possono leggere e prendere libri.",
        },
    ),
    (
        "Describe the sea.",
        {
            "Spanish": "El mar es grande y azul. Las olas llegan a la playa.",
            "French": "La mer est grande et bleue. Les vagues arrivent sur la plage.",
            "German": "Das Meer ist groß und blau. Die Wellen kommen an den Strand.",
            "Italian": "Il mare è grande e blu. Le onde arrivano sulla spiaggia.",
        },
    ),
]
