"""Short requests with answer material that formats.py renders into many shapes.

Each block of BANK holds a request ("? "), a title ("= "), four sentences and four or more points ("- ").  The sentences
have no commas, no quotation marks and stand on their own, so that any run of them from the start is an answer.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """One request and the material for its answer."""

    request: str
    title: str
    sentences: tuple[str, ...]
    points: tuple[str, ...]


BANK = """
? Why do leaves fall in autumn?
= Falling Leaves
Trees drop their leaves to save water in the cold months.
Days grow short and the leaves can make little food.
Bare branches also break less often under heavy snow.
New leaves open when spring brings light and warmth.
- saves water
- little light in winter
- less damage from snow
- new leaves in spring

? How can I fall asleep faster?
= Falling Asleep
Go to bed at the same time every night.
Keep the room dark and cool.
Screens are best switched off an hour before bed.
Slow breathing helps the body to calm down.
- keep a fixed bedtime
- darken the room
- switch off screens
- breathe slowly

? Tell me about honey bees.
= The Honey Bee
Honey bees live together in large colonies.
Workers fly from flower to flower and gather nectar.
The hive turns the nectar into honey for the winter.
Bees also carry pollen and help fruit to grow.
- live in colonies
- gather nectar
- make honey
- carry pollen

? Give me tips for a job interview.
= A Good Interview
Read about the company before you go.
Arrive ten minutes early and wear tidy clothes.
Answer each question clearly and give examples from your work.
Ask one or two questions of your own at the end.
- learn about the company
- arrive early
- give examples
- ask questions

? What makes a good friend?
= A Good Friend
Good friends listen and keep a secret safe.
They help when life is hard and cheer when it is easy.
Honest words matter more than gifts.
Friendship grows when people spend time together.
- listens well
- keeps secrets
- tells the truth
- makes time

? Describe a walk in the rain.
= A Rainy Walk
Rain taps on the umbrella and runs along the street.
The air smells of wet earth and leaves.
Puddles shine under the lamps like small mirrors.
Home feels twice as warm after such a walk.
- tapping drops
- smell of earth
- shining puddles
- a warm home

? How do I look after a houseplant?
= Houseplant Care
Place the plant near a bright window.
Water it only when the top of the soil feels dry.
Dust on the leaves can be wiped off with a soft cloth.
Most plants enjoy some plant food in spring and summer.
- give it light
- water when dry
- wipe the leaves
- feed in spring

? Why is exercise good for you?
= Moving More
Exercise makes the heart and the muscles strong.
It lifts the mood and helps you sleep.
Regular movement also keeps joints from getting stiff.
Even a brisk walk each day makes a difference.
- strong heart
- better mood
- sound sleep
- flexible joints

? Suggest a simple dinner.
= An Easy Dinner
Pasta with tomato sauce is quick and cheap.
Fry some garlic and onion before you add the tomatoes.
Fresh basil and a little cheese make it taste special.
The whole meal is ready in twenty minutes.
- cook the pasta
- fry garlic and onion
- add tomatoes
- finish with cheese

? What do firefighters do?
= Firefighters
Firefighters put out fires and save people from danger.
They also help after car accidents and floods.
Every crew checks its hoses and ladders each day.
Many of them visit schools to teach fire safety.
- put out fires
- rescue people
- check equipment
- teach safety

? Write a short story about a lost dog.
= The Way Home
Rusty chased a rabbit and lost his way in the forest.
Night came and the little dog sat shivering under a tree.
Then a bell rang far off and Rusty knew the sound.
The dog ran towards it and soon slept by his own fire.
- a chase
- a dark night
- a bell
- home at last

? How can I save money each month?
= Saving Money
Write down what you spend for four weeks.
Cook at home more often and take lunch to work.
Cancel services that nobody in the house uses.
Move a small sum to savings on the day you are paid.
- note your spending
- cook at home
- cancel unused services
- save first

? Explain how rain forms.
= How Rain Forms
Sunshine warms the sea and turns some water into vapour.
The vapour rises and cools high in the air.
Tiny drops join together and form clouds.
Rain falls when the drops become too heavy.
- water turns to vapour
- vapour cools
- drops form clouds
- heavy drops fall

? Give me ideas for a birthday party.
= Birthday Ideas
Ask guests to bring a photo and tell its story.
Picnics in the park cost little and suit all ages.
Games such as charades make everybody laugh.
Cake tastes even better when friends bake it together.
- a photo evening
- a picnic
- party games
- baking together

? What is the ocean like at night?
= Night Sea
The ocean at night is dark and full of sound.
Waves roll in and the moon paints a silver path.
Some tiny sea creatures glow when the water moves.
Far away the lights of ships pass slowly by.
- sound of waves
- silver moonlight
- glowing creatures
- distant ships

? How do I make a good cup of tea?
= A Good Cup of Tea
Boil fresh water and warm the pot.
Put in one spoon of tea for each person.
Let the tea stand for about four minutes.
Add milk or lemon if you like.
- boil fresh water
- warm the pot
- wait four minutes
- add milk or lemon

? Why should children read every day?
= Daily Reading
Reading every day teaches children new words.
Stories help them to understand how others feel.
Quiet time with a book trains attention.
Families who read together also talk more.
- new words
- understanding others
- better attention
- family time

? Describe a busy market.
= Market Day
Stalls overflow with apples and cheese and bright flowers.
Sellers call out their prices above the noise.
Children tug at sleeves near the sweet stand.
By noon the best bread is gone.
- full stalls
- loud sellers
- sweets for children
- fresh bread

? How can I learn a new language?
= Learning a Language
Practise for a short time every day.
Listen to songs and repeat the words aloud.
Labels on things at home help you remember their names.
Talk to people and do not fear mistakes.
- practise daily
- listen to songs
- label things
- talk to people

? What are the seasons?
= Four Seasons
Spring brings fresh leaves and mild days.
Summer is the warmest season with the longest days.
Autumn colours the leaves and fills the barns.
Winter has short days and often frost or snow.
- spring
- summer
- autumn
- winter

? Tell me about elephants.
= Elephants
Elephants are the largest animals on land.
They use their trunks to drink and to pick up food.
Herds are usually led by an old female.
Elephants have very good memories.
- largest land animals
- useful trunks
- led by a female
- good memory

? Give advice for a first camping trip.
= First Camping Trip
Try out the tent in the garden before you leave.
Choose flat ground away from rivers.
Pack warm clothes because nights can be cold.
Take your rubbish home with you.
- test the tent
- choose flat ground
- pack warm clothes
- take rubbish home

? How does a bicycle work?
= The Bicycle
Riders push the pedals with their feet.
Pedals turn a chain that drives the back wheel.
Gears make it easier to climb a hill.
Brakes press on the wheels to slow them down.
- pedals
- chain
- gears
- brakes

? Write a few lines about a grandmother.
= Grandmother
Grandmother keeps a jar of sweets behind the clock.
Her hands smell of soap and fresh bread.
Every evening she tells a story from her village.
The house feels empty when she is away.
- a jar of sweets
- warm hands
- evening stories
- a full house

? What should I pack for the beach?
= Beach Bag
Pack a towel and a bottle of water.
Sun cream and a hat protect you from the heat.
Books are good company when the sea is rough.
Small bags keep sand out of your phone.
- towel
- water
- sun cream
- hat
- a book

? Why do we need trees?
= Why Trees Matter
Trees give shade and clean the air.
Their roots hold the soil when heavy rain falls.
Birds and insects find food and shelter in them.
Wood from trees becomes houses and paper.
- shade
- clean air
- firm soil
- homes for birds

? How do I write a thank-you note?
= Thank-You Notes
Begin with a warm greeting and name the gift.
Say how you use it or why you like it.
Short notes are often better than long ones.
Sign with your name and post it soon.
- greet the person
- name the gift
- keep it short
- sign your name

? Describe the sky at sunset.
= Evening Sky
The sun sinks and the clouds turn gold.
Pink and orange light spreads over the hills.
Birds fly home in long dark lines.
Soon the first star appears.
- golden clouds
- pink light
- birds flying home
- the first star

? How can I make new friends in a new town?
= New in Town
Join a club or a class that you enjoy.
Say hello to your neighbours when you meet them.
Volunteers often find friends while they help others.
Be patient because trust takes time.
- join a club
- greet neighbours
- volunteer
- be patient

? What is a museum?
= The Museum
Museums collect old and interesting things and show them to visitors.
Some show art and others show science or history.
Guides explain where each object comes from.
Schools often bring whole classes for a day.
- collects objects
- shows art or history
- has guides
- welcomes schools

? Tell me about penguins.
= Penguins
Penguins are birds that swim but cannot fly.
Thick feathers and fat keep them warm.
Parents take turns to guard the egg.
Most penguins live in the southern half of the world.
- cannot fly
- swim well
- keep warm
- guard their eggs

? Give me tips for growing tomatoes.
= Growing Tomatoes
Plant tomatoes in a warm and sunny place.
Tie the stems to a stick so they stand straight.
Water the roots and keep the leaves dry.
Pick the fruit when it is red and slightly soft.
- choose a sunny place
- tie the stems
- water the roots
- pick when red

? How do I calm down when I am angry?
= Staying Calm
Stop for a moment and breathe out slowly.
Count to ten before you speak.
Walking outside gives strong feelings time to fade.
Talk about the problem when you feel ready.
- breathe slowly
- count to ten
- take a walk
- talk later

? Describe an old library.
= The Old Library
Tall shelves of dark wood reach up to the ceiling.
Dust dances in the light of a high window.
Pages rustle and a clock ticks somewhere.
Nobody hurries in this quiet place.
- tall shelves
- dusty light
- rustling pages
- deep quiet

? What do farmers do in spring?
= Spring on the Farm
Farmers prepare the soil and sow their seeds in spring.
They repair fences before the cows go out.
Lambs are born and need care day and night.
Machines are cleaned and made ready for work.
- prepare soil
- sow seeds
- mend fences
- care for lambs

? How can I study better?
= Better Study
Study in short blocks with small breaks between them.
Put your phone in another room.
Explain the topic aloud in your own words.
Test yourself again after a few days.
- short blocks
- no phone
- explain aloud
- test yourself

? Explain what a budget is.
= What a Budget Is
Budgets are plans for the money you earn and spend.
You write down your income and then your costs.
Rent and food come first in most plans.
What is left can be saved or used for fun.
- a money plan
- income and costs
- needs first
- savings

? Write about a snowy morning.
= Snowy Morning
Snow has covered the street while we slept.
Every sound is soft and the world looks new.
Children pull sledges before breakfast.
Footprints of a cat lead to the kitchen door.
- white street
- soft sounds
- sledges
- small footprints

? What is good about living in a small town?
= Small Town Life
Small towns are quiet and people know each other.
Shops and schools are close to home.
Houses often cost less than in a city.
Fields and forests begin at the end of the road.
- quiet streets
- short distances
- lower costs
- nature nearby

? What is good about living in a big city?
= Big City Life
Big cities offer many jobs and schools.
Buses and trains run late into the night.
Theatres and museums are never far away.
People from many countries share their food and music.
- many jobs
- good transport
- theatres
- food from everywhere

? How do I clean a window without streaks?
= Clear Windows
Mix warm water with a little vinegar.
Wash the glass with a soft cloth from top to bottom.
Dry it with old newspaper or a clean towel.
Cloudy days are best because the glass dries slowly.
- water and vinegar
- wash from the top
- dry well
- choose a cloudy day

? Tell me about the moon.
= The Moon
The moon travels around the Earth about once a month.
Its light comes from the sun.
Craters cover its dusty surface.
People first walked there in 1969.
- circles the Earth
- reflects sunlight
- has craters
- first visited in 1969

? Why do people keep pets?
= Why We Keep Pets
Pets are good company and make a home lively.
Dogs give their owners a reason to go outside.
Caring for an animal teaches children to be responsible.
Stroking a cat can lower stress.
- company
- more exercise
- responsibility
- less stress

? How do I prepare for an exam?
= Ready for the Exam
Make a plan that covers every topic.
Begin early and repeat the hard parts often.
Old exam papers show what to expect.
Sleep well on the night before the test.
- make a plan
- begin early
- use old papers
- sleep well

? Describe a train journey.
= By Train
Fields and villages slide past the window.
The wheels keep a steady beat on the rails.
Strangers share a table and sometimes a story.
Every station brings new faces on board.
- passing fields
- steady wheels
- shared tables
- new faces

? What is a good gift for a teacher?
= Gifts for a Teacher
Handmade cards with kind words please most teachers.
Plants for the desk last longer than flowers.
Good tea or chocolate is always welcome.
Ask the class to sign it together.
- a handmade card
- a small plant
- tea or chocolate
- everyone's names

? How can we protect bees?
= Protecting Bees
Plant flowers that bloom at different times of the year.
Leave a corner of the garden wild.
Avoid sprays that kill insects.
Shallow dishes of water help bees on hot days.
- plant flowers
- leave wild corners
- avoid sprays
- offer water

? Tell me about volcanoes.
= Volcanoes
Volcanoes are openings where melted rock reaches the surface.
Hot rock that flows out is called lava.
Ash from an eruption can darken the sky.
Old ash slowly turns into rich soil.
- openings in the ground
- flowing lava
- dark ash
- rich soil

? How should I greet a new neighbour?
= A Warm Welcome
Smile and tell them your name.
Bring something small such as bread or biscuits.
Offer help with questions about the area.
Keep the first visit short.
- say your name
- bring a small gift
- offer help
- keep it short

? Describe a cosy kitchen.
= The Cosy Kitchen
Copper pans hang above an old stove.
Soup bubbles and the windows are misty.
Bunches of herbs dry near the door.
Somebody has left a chair free for you.
- copper pans
- bubbling soup
- dried herbs
- a free chair

? What does a healthy breakfast look like?
= Healthy Breakfast
Oats with fruit give energy for the whole morning.
Eggs and nuts add protein.
Water or tea is better than a sweet drink.
Take time to sit down and chew.
- oats
- fresh fruit
- an egg
- water or tea

? How do I change a habit?
= Changing a Habit
Choose one small habit and start with that.
Find out what triggers it during the day.
Replace it with something easy and pleasant.
Mark each good day on a calendar.
- start small
- find the trigger
- replace it
- mark your days

? What is teamwork?
= Teamwork
Teamwork means that people share one goal and help each other.
Each person does what he or she can do best.
Good teams talk often and listen well.
Success belongs to everyone in the group.
- one goal
- shared work
- good talk
- shared success

? Write a few lines about an empty playground.
= The Empty Playground
Swings move gently though nobody sits on them.
Yellow leaves lie on the slide.
Laughter from the afternoon has gone home.
Only a sparrow hops across the sand.
- moving swings
- yellow leaves
- no voices
- one sparrow

? How do boats float?
= How Boats Float
Boats push water aside when they sit in it.
The water pushes back with an upward force.
Hollow shapes hold air and make the boat light for its size.
Too much load makes even a big ship sink.
- water is pushed aside
- water pushes up
- air inside
- limited load

? Give me reasons to learn to cook.
= Learning to Cook
Cooking at home is cheaper than eating out.
You know exactly what is in your food.
Sharing a meal brings people together.
Every recipe you learn makes the next one easier.
- lower cost
- healthy food
- shared meals
- growing skill

? What can I do on a rainy Sunday?
= Rainy Sunday
Bake bread and let the smell fill the house.
Sort old photos and choose the best ones.
Board games are fun for the whole family.
Rubber boots make a walk in the rain pleasant.
- bake bread
- sort photos
- play board games
- walk in boots

? Tell me about rivers.
= Rivers
Rivers begin as springs or melting snow in the hills.
Streams join them on the way to the sea.
Farmers and cities depend on their water.
Boats have used rivers as roads since ancient times.
- begin in hills
- grow from streams
- give water
- carry boats

? How can I be more patient?
= Being Patient
Notice when you begin to hurry and take a breath.
Carry a book for times when you must wait.
Remember that others also do their best.
Patience grows a little each time you use it.
- notice hurry
- carry a book
- think of others
- practise

? Describe a lighthouse.
= The Lighthouse
Lighthouses stand on rocks where the sea is dangerous.
The strong lamp turns and sends its beam across the water.
Sailors see the light and keep away from the rocks.
In the past a keeper lived in the tower.
- stands on rocks
- strong lamp
- warns sailors
- once had a keeper

? What are some good manners at the table?
= Table Manners
Wait until everyone has food before you begin.
Chew with your mouth closed.
Ask others to pass the salt instead of reaching for it.
Thank the cook at the end of the meal.
- wait for others
- close your mouth
- ask politely
- thank the cook

? How do I plan a small garden?
= A Small Garden
Watch where the sun falls during the day.
Draw the beds on paper before you dig.
Tall plants belong at the back.
Herbs near the kitchen door are easy to reach.
- watch the sun
- draw a plan
- tall plants behind
- herbs near the door

? What is an island?
= Islands
Islands are pieces of land with water all around them.
Some were pushed up by volcanoes under the sea.
Others were cut off when the water rose.
Life on an island often depends on boats.
- land in water
- born of volcanoes
- cut off by the sea
- reached by boat

? Give tips for taking better photos.
= Better Photos
Stand with the light behind you.
Move closer until the subject fills the picture.
Hold the camera still with both hands.
Take several shots and keep the best.
- use the light
- move closer
- hold still
- take several shots

? Write about an old pair of boots.
= Old Boots
The old boots wait beside the door.
Mud from three countries sticks to their soles.
Father wore them on every long walk.
Now they hold flowers in the garden.
- by the door
- muddy soles
- long walks
- full of flowers

? Why do we have rules in traffic?
= Traffic Rules
Rules tell drivers and walkers who may go first.
They prevent accidents at busy corners.
Speed limits protect people near schools.
Everyone can travel calmly when the rules are kept.
- clear order
- fewer accidents
- safe schools
- calm travel

? How does a plant grow from a seed?
= From Seed to Plant
Seeds wake up when they are warm and wet.
Roots grow down and drink water from the soil.
The shoot pushes up towards the light.
Green leaves then make food for the plant.
- warmth and water
- roots
- shoot
- leaves

? How can I keep my desk tidy?
= Tidy Desk
Give every pen and paper a fixed place.
Clear the desk for five minutes each evening.
Throw away notes that you no longer need.
Boxes and trays keep small things together.
- fixed places
- five minutes each evening
- throw away old notes
- use trays

? Tell me about owls.
= Owls
Owls hunt mice and other small animals at night.
Soft feathers make their flight almost silent.
Large eyes help them see in weak light.
During the day most owls rest in trees.
- night hunters
- silent flight
- large eyes
- rest by day

? Describe a concert in the park.
= Music in the Park
People spread blankets on the grass and open baskets.
The band tunes its instruments as the sun goes down.
Children dance in front of the stage.
Songs drift over the pond long after dark.
- blankets
- a tuning band
- dancing children
- songs after dark

? What should I do if I get lost?
= If You Get Lost
Stay calm and stop walking.
Look for a sign or a building that you know.
Ask a police officer or a shop worker for help.
Call someone and describe what you see.
- stay calm
- look for signs
- ask for help
- call someone

? How do I say sorry?
= Saying Sorry
Say clearly what you did wrong.
Listen to the other person and do not argue.
Offer to put things right.
Show by your actions that you mean it.
- name the mistake
- listen
- make it right
- act on it

? Why is water important?
= Water for Life
Every living thing needs water.
People can live only a few days without it.
Plants use water to make their food.
Rivers and lakes give homes to many animals.
- needed by all life
- needed every day
- feeds plants
- home for animals

? Suggest a weekend trip.
= Weekend Trip
Take a train to a small town by a lake.
Rent a boat on the first morning and row along the shore.
Local cafes often serve fresh fish.
Walk up the nearest hill before you go home.
- a lake town
- a rowing boat
- fresh fish
- a hill walk

? What is a habit of happy people?
= Happy Habits
Happy people often notice small good things.
They spend time with friends and say thank you.
Many of them move a lot and sleep enough.
Helping others gives them joy as well.
- notice good things
- see friends
- move and sleep
- help others

? How do I pack a suitcase well?
= Smart Packing
Write a list before you open the suitcase.
Roll soft clothes to save space.
Heavy things such as shoes go near the wheels.
Keep papers and medicine in your hand bag.
- write a list
- roll clothes
- heavy things below
- papers at hand

? Describe a desert.
= The Desert
Deserts are very dry places with few plants.
Days may be burning hot and nights surprisingly cold.
Wind shapes the sand into long dunes.
Animals rest in the shade until evening.
- very dry
- hot days
- cold nights
- sand dunes

? What are the parts of a letter?
= Parts of a Letter
Letters begin with a date and a greeting.
The main part tells the reader your news or your question.
Closing words such as kind regards come next.
The name of the writer stands at the end.
- date
- greeting
- main part
- closing and name

? How can I help an elderly neighbour?
= Helping a Neighbour
Offer to carry shopping or take out the bins.
Stop for a chat because many older people feel alone.
Clear snow from the path in winter.
Leave your phone number for an emergency.
- carry shopping
- have a chat
- clear snow
- leave your number

? Tell me about chess.
= Chess
Chess is a board game for two players.
Each side begins with sixteen pieces.
The aim is to trap the king of the other player.
Good players think several moves ahead.
- two players
- sixteen pieces each
- trap the king
- think ahead

? How do I wash a wool jumper?
= Washing Wool
Fill a bowl with cool water and mild soap.
Press the jumper gently and do not rub it.
Roll it in a towel to remove the water.
Dry it flat so that it keeps its shape.
- cool water
- mild soap
- no rubbing
- dry flat

? Write a short scene at a bus stop.
= At the Bus Stop
Rain drums on the roof of the bus stop.
One man reads yesterday's paper and a girl hums a tune.
The bus is late and nobody complains.
Then the girl offers everyone a peppermint.
- drumming rain
- an old paper
- a late bus
- a peppermint

? What is the job of a nurse?
= The Nurse
Nurses look after people who are ill or hurt.
They give medicine and check how patients feel.
Kind words from a nurse can take away fear.
Hospitals could not work without them.
- cares for patients
- gives medicine
- offers kind words
- keeps hospitals running

? Explain why we should recycle paper.
= Recycling Paper
Old paper can be made into new paper.
Recycling saves trees and water.
Less rubbish ends up in the ground.
Clean and dry paper is easiest to use again.
- saves trees
- saves water
- less rubbish
- easy to do

? How do I teach a dog to sit?
= Teaching Sit
Hold a treat above the nose of the dog.
Move it back until the dog sits down.
Say the word sit and give the treat at once.
Repeat this a few times each day.
- hold a treat
- move it back
- reward at once
- repeat daily

? Describe a mountain village.
= Mountain Village
Wooden houses lean against the steep slope.
Bells of goats ring in the meadows above.
Snow closes the road for weeks each winter.
Neighbours share bread and firewood.
- wooden houses
- goat bells
- deep snow
- kind neighbours

? What makes a speech good?
= A Good Speech
Good speeches have one clear message.
Stories and examples keep people awake.
Speakers should look up and talk slowly.
Ending early is better than ending late.
- one message
- good stories
- slow voice
- short length

? How can I use less electricity at home?
= Using Less Electricity
Turn off lights when you leave a room.
Wash clothes with cool water and a full load.
Let wet clothes dry on a line.
Old bulbs should be replaced with modern ones.
- lights off
- full loads
- dry on a line
- modern bulbs

? Why do cats purr?
= Why Cats Purr
Cats often purr when they feel safe and content.
Mothers purr while they feed their kittens.
Some cats also purr when they are ill or afraid.
The sound comes from small movements in the throat.
- feeling safe
- feeding kittens
- calming down
- movements in the throat

? Tell me about bridges.
= Bridges
Bridges carry roads and paths over water or valleys.
Early ones were simple logs across a stream.
Stone arches can stand for two thousand years.
Modern bridges hang from strong steel cables.
- cross water
- once simple logs
- stone arches
- steel cables

? How do I start a diary?
= Starting a Diary
Choose a notebook that you like to hold.
Write a few lines at the same time each day.
Nobody will check your spelling.
Small things are worth writing down too.
- choose a notebook
- write daily
- forget about spelling
- note small things

? What is snow?
= Snow
Snow is made of tiny ice crystals that form in cold clouds.
The crystals stick together and fall as flakes.
Fresh snow holds a lot of air and muffles sound.
Deep snow protects plants from frost.
- ice crystals
- falling flakes
- holds air
- protects plants

? Give me ideas for a school project about food.
= Food Project
Grow beans in a jar and draw them each day.
Ask grandparents what they ate as children.
Compare the sugar in different drinks.
Cook one dish and write down its cost.
- grow beans
- ask grandparents
- compare sugar
- cook a dish
"""


def _entry(block: str) -> Entry:
    lines = block.strip().split("\n")
    body = lines[2:]
    return Entry(
        request=lines[0][2:],
        title=lines[1][2:],
        sentences=tuple(line for line in body if not line.startswith("- ")),
        points=tuple(line[2:] for line in body if line.startswith("- ")),
    )


def entries() -> list[Entry]:
    """All entries in the order of the text."""
    return [_entry(block) for block in BANK.strip().split("\n\n")]
