"""Harmless things to ask that sound harsh, sudden or secret, and plain everyday trouble: topic | kind | core | answer.

Kinds: `do` a verb phrase after "how do I"; `wrong` a sentence that says what went wrong; `what` a noun phrase to
explain; `ask` a whole question. None of them is in an evaluation suite (tests/test_lookalikes.py compares the words).
Leaves out harmful requests (_refusal_bank.py) and the wordings (lookalikes.py).
"""

from typing import NamedTuple


class Core(NamedTuple):
    topic: str
    kind: str
    core: str
    answer: str


CORES = """
computing|do|kill a download that hangs|Cancel it in the browser's list of downloads. If that fails, close the browser and start it again.
computing|do|destroy an old hard drive before recycling it|Erase it with a disk tool first. Many shops and town depots will shred it for you.
computing|do|strip the sound out of a video file|Open it in a video editor, mute or delete the sound track, and save a copy.
computing|do|break a long line of code in two|Put brackets around the expression and press Enter inside them. Most languages accept that.
computing|do|blow up a small picture without blur|Use a program with a good upscaler, and do not go beyond twice the size.
computing|do|crack open a zip archive that I made myself|Double-click it and choose "extract all". If you set a password, type it when you are asked.
computing|do|execute a script at midnight every day|Use the task scheduler of your system, such as cron on Linux, and give it the time and the script.
computing|do|catch an exception in my program|Put the risky lines in a try block and handle the error in the part after it.
computing|do|dump a table of my database into a file|Most databases have an export command. Choose the table, a format such as CSV, and a folder.
computing|do|get rid of pop-ups on my tablet|Open the browser's settings and switch on the pop-up blocker. Remove apps that you do not know.
computing|wrong|My mouse pointer jumps around|Clean the sensor under the mouse and try another surface. A weak battery can cause it too.
computing|wrong|The printer eats every second sheet|Take the paper out, fan it, and put fewer sheets in. Wipe the rubber rollers with a damp cloth.
computing|wrong|My phone fell into the sink|Switch it off, dry it with a cloth, and leave it in a dry place for a day before you turn it on.
computing|wrong|The screen of my tablet went black|Hold the power button for twenty seconds, then charge it for half an hour and try again.
computing|wrong|My files vanished after I moved them|Look in the recycle bin and search the disk for a file name. A backup will have them too.
computing|what|a kill switch in a program|It is a way to stop a program at once when something goes wrong.
computing|what|a race condition|It is a bug that appears when two parts of a program use the same data at the same time.
computing|what|a trap door function|It is a function that is easy to compute one way and very hard to turn back. Codes are built on it.
computing|what|an orphan process|It is a process whose parent has ended. The system adopts it and lets it finish.
computing|what|a poison pill message in a queue|It is a message that makes a worker stop, or one that always fails. It is usually set aside.
computing|ask|Why does my computer attack the fan when I play games?|Games make the chips hot, so the fan spins faster to cool them. Dust makes it louder.
photography|do|shoot fireworks with my phone|Rest the phone on something firm, tap to lock the focus, and take many pictures in a row.
photography|do|capture a running dog|Use a fast shutter, follow the dog with the camera, and take a burst of pictures.
photography|do|cut somebody out of a group picture|Use the selection tool of a photo editor, trace the person, and fill the gap with background.
photography|do|shoot strangers' houses for an architecture project|Stay on the public street, keep people out of the picture, and ask when somebody looks worried.
photography|do|frame a sunset over a lake|Put the horizon in the upper or lower third and let a branch or a boat stand in front.
photography|do|hang heavy frames on a brick wall|Drill a hole with a masonry bit, push in a plug, and turn a screw into it.
photography|wrong|All my pictures have red eyes|The flash is too close to the lens. Move it, bounce it off the ceiling, or use more light.
photography|wrong|My lens is full of fog|It came from cold into warm air. Leave it in its closed bag until it has warmed up.
photography|what|a trigger in studio lighting|It is a small sender on the camera that fires the flash at the right moment.
photography|what|a dead pixel|It is a dot on a sensor or screen that no longer works. Software can often hide it.
photography|what|a mug book for actors|It is a folder with portraits of actors that helps a director to choose among them.
photography|ask|Why do photographers speak of shooting people?|It is only a word for taking pictures. It comes from pressing a trigger.
photography|ask|Is it all right to shoot in a museum?|Often yes, without flash. Look for a sign or ask at the desk.
cooking|do|kill the heat in a curry that is too hot|Stir in yogurt, coconut milk or a little sugar. Rice on the side helps too.
cooking|do|smash garlic quickly|Lay the flat of a wide knife on the clove and press with your palm. The skin slips off.
cooking|do|beat egg whites stiff|Use a clean, dry bowl and whisk fast until the tips stand up. No yolk may get in.
cooking|do|burn sugar for a crust on custard|Spread a thin layer of sugar on top and melt it with a kitchen torch or under a hot grill.
cooking|do|skin a tomato|Cut a cross in it, put it in boiling water for half a minute, then in cold water. The skin peels off.
cooking|do|drown a cake in syrup|Prick the warm cake with a stick and spoon the syrup over it slowly until it stops soaking in.
cooking|do|bleed a beet of its color before pickling|Boil the slices, pour the red water away, and rinse them until the water runs clear.
cooking|do|chop chillies without burning my hands|Wear thin gloves or oil your fingers, and do not touch your eyes.
cooking|do|hide vegetables in a sauce for a picky child|Cook them soft, blend them smooth, and stir them into tomato sauce.
cooking|do|murder a big plate of ribs at a contest|Eat lightly before it, drink water, and start with the meaty end. Stop when you are full.
cooking|do|break down a whole chicken for soup|Cut at the joints of legs and wings, then along the breast bone. Keep the bones for the pot.
cooking|do|sharpen a dull kitchen knife|Draw the edge over a wet stone at a low angle, the same number of strokes on each side.
cooking|wrong|My bread came out like a brick|The yeast was old or the dough had too little time. Let it rise until it is twice as big.
cooking|wrong|I put too much salt in the soup|Add water or cream, and let a raw potato simmer in it for ten minutes.
cooking|wrong|My jam does not set|Boil it a little longer with lemon juice, and test a drop on a cold plate.
cooking|wrong|The milk boiled over on the stove|Turn the plate off, let it cool, and wipe it with water and a little vinegar.
cooking|what|a devil's food cake|It is a dark, moist chocolate cake. The name only says that it is richer than a white angel cake.
cooking|what|a killer sauce|People call a sauce that when it is very tasty. Nobody is hurt.
cooking|what|a suicide burger at a diner|It is a silly name for a very large or very hot burger.
cooking|what|blackened fish|It is fish rubbed with spices and fried very hot, so that the outside turns dark.
cooking|ask|Can I drink coffee cold the next day?|Yes, if it stood in the fridge in a closed jar. It tastes best within a day.
cooking|ask|Why does chopping onions make me cry?|The cut onion lets out a gas that stings the eyes. A sharp knife and a cold onion help.
garden and pests|do|kill moss between the paving stones|Scrape it out, pour boiling water over it, and sweep sand into the gaps.
garden and pests|do|get rid of moles without harming them|Put noisy sticks or strong smells such as garlic into their tunnels. They often move on.
garden and pests|do|stop slugs eating my lettuce|Lay copper tape or rough sand around the bed and pick slugs off in the evening.
garden and pests|do|drive pigeons off the balcony|Hang up shiny strips, take away food, and stretch a net over the corner where they sit.
garden and pests|do|poison ivy proof my hands before weeding|Wear long gloves and sleeves, and wash your skin with soap right after you finish.
garden and pests|do|choke out weeds under a hedge|Cover the soil with cardboard and a thick layer of bark. Without light most weeds die.
garden and pests|do|behead the faded roses|Cut the stem just above the first leaf with five leaflets. New buds will follow.
garden and pests|do|dig up a dead tree stump|Cut the roots around it with a spade and saw, then lever it out with a strong bar.
garden and pests|do|burn garden waste legally|Ask your town first, because many forbid it. Composting or the green bin is easier.
garden and pests|do|trap a raccoon humanely|Ask the animal service for a live trap, bait it with sweet corn, and let them take it away.
garden and pests|do|fight aphids on beans|Spray them off with water, or use mild soap water in the evening. Ladybirds eat them too.
garden and pests|wrong|My tomato leaves are turning yellow|Too much water is the usual cause. Let the soil dry a little and cut off the yellow leaves.
garden and pests|wrong|Something digs holes in my lawn at night|It may be a hedgehog, a badger or a skunk looking for grubs. Fill the holes and treat the grubs.
garden and pests|wrong|My cactus has gone soft|It has had too much water. Cut away the soft part, let it dry, and water much less.
garden and pests|wrong|Birds steal all our cherries|Throw a fine net over the tree, or hang shiny ribbons in it when the fruit turns red.
garden and pests|what|a strangler fig|It is a tree that starts high on another tree, sends roots down, and slowly covers it.
garden and pests|what|a slug pub|It is a cup of beer in the soil. Slugs smell it, crawl in, and do not come out.
garden and pests|ask|When should I attack the ivy on my wall?|Cut it in late winter, when no birds nest in it. Pull the stems off from the top.
garden and pests|ask|Does vinegar kill ants?|It wipes away their trail, so fewer come. Closing the crack they use works longer.
sports|do|beat a taller opponent at table tennis|Keep the ball low and wide, and make your opponent move. Long arms like high balls.
sports|do|punch harder in a boxing class|Turn your hip and foot with the punch and keep the wrist straight. Ask your trainer to watch.
sports|do|crush my personal best over ten kilometers|Run easy most days, run fast intervals once a week, and start the race slower than you want to.
sports|do|shoot better from the free throw line|Bend your knees, keep the elbow under the ball, and follow through with the wrist. Do it the same way each time.
sports|do|steal second base|Watch the pitcher's front foot, take a good lead, and run the moment he commits to the plate.
sports|do|escape from a headlock in wrestling practice|Tuck your chin, grip the arm, and turn your body towards your partner. Practice it slowly.
sports|do|knock down all ten pins|Aim a little beside the front pin with a ball that curves in. A straight ball leaves corners.
sports|do|hit a backhand down the line|Turn your shoulders early, meet the ball in front of you, and finish towards the target.
sports|do|kill a long high ball with my chest|Lean back a little, let the chest give as the ball arrives, and it drops to your feet.
sports|do|throw a javelin farther|Run in smoothly, keep the arm long, and let the hip go first. The arm comes last.
sports|do|ambush my friends in laser tag|Wait behind a corner where they must pass, stay low, and aim for the lights on the vest.
sports|wrong|My legs feel dead after a long run|Walk a little, drink, eat something, and sleep well. Easy running is fine after two days.
sports|wrong|Our team is getting slaughtered every week|Train one simple thing at a time, such as passing, and agree who guards whom.
sports|what|a sudden death playoff|It is extra time in which the first side to score wins at once.
sports|what|a suicide run in training|It is a drill of sprints to one line after another and back. Many coaches call it shuttle run.
sports|what|a killer serve|It is a serve so fast or so well placed that the other player cannot return it.
sports|what|a hit and run in baseball|The runner starts as the pitch is thrown, and the batter tries to hit the ball into the gap.
sports|what|body checking in hockey|It is pushing a player who has the puck off it with the shoulder or hip. Not all leagues allow it.
sports|ask|Is it legal to use the elbow in basketball?|You may hold your elbows out, but hitting somebody with them is a foul.
history|ask|How did knights die in tournaments?|Most deaths came from falls, broken lances and heat in the heavy armor. Later rules made the games safer.
history|ask|Why was Julius Caesar killed?|Some senators feared that he would make himself king. They stabbed him in the year 44 BC.
history|ask|What weapons did Roman soldiers carry?|A short sword, a throwing spear and a dagger, with a large shield.
history|ask|How did the Black Death spread?|Fleas on rats carried it along trade routes and ships. It killed a large part of Europe around 1350.
history|ask|Who shot Abraham Lincoln?|The actor John Wilkes Booth shot him in a theater in 1865.
history|ask|How did smugglers hide tea in old times?|They used false floors in boats, hollow barrels and caves near the coast. High taxes made it pay.
history|ask|Why were witches burned?|People blamed them for sickness and bad harvests. Fear and unfair courts did the rest.
history|ask|How did the guillotine come into use?|France took it up in 1792 because it was thought quicker and more equal than older ways.
history|ask|What started the war between Athens and Sparta?|Sparta feared the growing power of Athens. Quarrels among their allies did the rest.
history|ask|How did prisoners escape from Alcatraz in 1962?|Three men dug through a wall with spoons and left on a raft made of raincoats. They were never found.
history|what|a siege tower|It was a high wooden tower on wheels, from which soldiers could climb onto a wall.
history|what|a pirate's letter of marque|It was a paper by which a king allowed a ship to rob the ships of his enemies.
history|what|the gunpowder plot|It was a plan in 1605 to blow up the English parliament. It was found out in time.
history|what|a war bond|It was a loan that citizens gave their state during a war and got back later with interest.
history|what|the reign of terror|It was a time in the French Revolution when many people were executed, from 1793 to 1794.
medicine safety|do|take out stitches safely|Let a nurse or doctor do it. They know when the wound has healed, and it takes only a few minutes.
medicine safety|do|get my toddler to swallow medicine|Use a small syringe into the cheek, a little at a time, and praise him. Ask which juice may follow.
medicine safety|do|store pills in a hot summer|Keep them in a dry cupboard below 25 degrees, not in the car or the bathroom.
medicine safety|do|dispose of old pills|Take them back to the pharmacy. Do not flush them.
medicine safety|do|stop a nosebleed|Sit up, lean forward, and pinch the soft part of the nose for ten minutes. See a doctor if it goes on.
medicine safety|do|kill head lice on my daughter|Use a lotion from the pharmacy, comb the wet hair with a fine comb, and repeat it after a week.
medicine safety|do|treat a small burn from an iron|Hold it under cool running water for twenty minutes and cover it loosely. A large burn needs a doctor.
medicine safety|wrong|I took my tablet twice this morning|Call your pharmacist or a poison line and tell them the name and the dose. Go to a doctor if you feel unwell.
medicine safety|wrong|A bee stung my thumb|Scrape the sting out, cool the thumb, and wait. Call for help if breathing gets hard.
medicine safety|wrong|My son bumped his head and cries|Cool the bump and watch him for a day. Vomiting, sleepiness or confusion means a doctor at once.
medicine safety|what|a lethal dose on a data sheet|It is the amount that would kill, found in tests. It helps doctors to set safe limits far below it.
medicine safety|what|a booster shot|It is a further dose of a vaccine that reminds the body how to defend itself.
medicine safety|what|a drug interaction|It is when one medicine changes what another does. A pharmacist can check yours.
medicine safety|ask|Can I drink milk with antibiotics?|Some antibiotics work less with milk. Read the leaflet or ask the pharmacist about yours.
medicine safety|ask|Why do some cough drops make you sleepy?|Some hold a substance that calms and makes tired. The label says so; do not drive then.
locks and home safety|do|break into my own shed when the key is lost|Try to unscrew the hinges or the lock from outside, or call a locksmith and show that it is yours.
locks and home safety|do|open a stuck window|Run a thin knife along the paint line, tap the frame gently, and rub candle wax on the runners.
locks and home safety|do|choose a safe for my papers|Look for a fire rating of an hour, a weight that is hard to carry, and bolts into the floor.
locks and home safety|do|scare burglars away while I travel|Use a timer for the lights, ask a neighbor to empty the mailbox, and do not post your trip.
locks and home safety|do|put out burning fat in a pan|Turn the heat off and lay a lid on it. Never use water.
locks and home safety|do|get a ring off a swollen finger|Use soap or oil and turn it slowly. Cold water and holding the hand up help first.
locks and home safety|do|baby-proof a staircase|Fix a gate at the top and the bottom, and close wide gaps between the bars.
locks and home safety|do|cut the power before I change a socket|Switch off the right fuse, then test the socket with a tester before you touch a wire.
locks and home safety|do|lock a bicycle so nobody steals it|Lock frame and wheel to something fixed with a solid U-lock, in a busy and well lit place.
locks and home safety|wrong|I smell gas in my kitchen|Open the windows, touch no switch, go outside, and call the gas company or the fire service.
locks and home safety|wrong|My front door will not lock|Check if the bolt meets its plate. Lift the door a little; loose hinges often need only a screwdriver.
locks and home safety|wrong|The alarm goes off for no reason|Change its battery and clean the sensor. Spiders and steam often set it off.
locks and home safety|wrong|I dropped a glass and there are shards everywhere|Wear shoes, pick up the big pieces, sweep, and press soft bread or wet paper on the rest.
locks and home safety|what|a deadbolt|It is a lock whose bolt is moved only by the key or a knob, so it cannot be pushed back.
locks and home safety|what|a bump key|It is a specially cut key that can open weak locks. Better locks have pins that resist it.
locks and home safety|ask|Is it safe to sleep with a candle burning?|No, put it out before you sleep. A small LED light is a safe choice.
everyday phrases|do|break the news that I am moving|Say it early and plainly, give the reason, and say when you will meet again.
everyday phrases|do|steal the show at a school play|Know your lines, speak to the last row, and enjoy it. Let the others shine as well.
everyday phrases|do|kill an hour at the station|Read, walk around the block, or call a friend. Many stations have a bookshop.
everyday phrases|do|shoot down an idea politely|Name what is good in it, say what worries you, and offer another way.
everyday phrases|do|dump my gym membership|Read the contract for the notice period and cancel in writing. Keep a copy.
everyday phrases|do|crush my job interview tomorrow|Read about the firm, prepare three stories of your work, and sleep well.
everyday phrases|do|blow my sister away with a birthday gift|Think of what she talks about often, and add a note in your own hand.
everyday phrases|do|twist my friend's arm to come to the party|Tell him who will be there, offer to pick him up, and leave him free to say no.
everyday phrases|do|bury the hatchet with an old friend|Write first, say what you are sorry for, and suggest a walk together.
everyday phrases|do|roast my best man in a speech kindly|Pick two funny small stories, leave out what would shame him, and end with praise.
everyday phrases|wrong|My friend says he is dead tired|He only means that he is very tired. Let him rest and offer him some water.
everyday phrases|wrong|My mother will murder me when she sees this mess|She will only be cross. Clean the worst part first, then say sorry before she asks.
everyday phrases|wrong|I bombed my exam|Ask what went wrong, make a plan for the gaps, and take the next one. One exam is not the end.
everyday phrases|wrong|I am dying to see that film and it is sold out|Look for a later show or ask at the desk for returned tickets.
everyday phrases|what|a backstabber|It is a person who is friendly to your face and harms you behind your back.
everyday phrases|what|a guilty pleasure|It is something small you enjoy although you think you should not, such as silly songs.
everyday phrases|what|a dead giveaway|It is a sign that shows the truth at once.
everyday phrases|what|a killer smile|It is a very charming smile. The word only makes it stronger.
everyday phrases|what|a cutthroat market|It is a market in which firms fight hard for every customer.
everyday phrases|ask|What does "to bite the bullet" mean?|It means to do something unpleasant that cannot be put off.
everyday phrases|ask|What does "over my dead body" mean?|It means that the speaker will never allow something.
everyday phrases|ask|What does "to spill the beans" mean?|It means to tell a secret, often by mistake.
everyday phrases|ask|What do people mean by "going viral"?|They mean that something spreads very quickly from person to person online.
games and fiction|do|kill the dragon at the end of a game|Learn its pattern, keep your distance, and save your best items for the last third.
games and fiction|do|write a villain who is scary|Give him a reason that makes sense, calm words, and one thing he loves.
games and fiction|do|rob a bank in a board game|Most such games ask for the right cards or dice. Collect tools first and plan the way out.
games and fiction|do|win a shooting game against my cousin|Learn the maps, use a headset, and move between shots. Short breaks keep you sharp.
games and fiction|do|attack with knights in chess|Place them in the center where pawns cannot drive them away, and look for forks.
games and fiction|do|plan a murder mystery dinner|Give each guest a role and a secret, hide clues in three rounds, and let them vote at the end.
games and fiction|do|destroy a star base in my space story|Let a small team find one weak point, and make it cost them something.
games and fiction|do|build a bomb out of paper for a comic prop|Roll black card into a ball, glue on a string as a fuse, and paint a white shine on it.
games and fiction|do|poison the king in my fairy tale|Let a jealous cook use a magic apple, and let a kind maid find the cure.
games and fiction|do|steal the flag in capture the flag|Send two friends to draw the guards away and run along the edge.
games and fiction|wrong|My character dies at the same level every time|Slow down, watch the enemy's pattern, and go back for a stronger shield.
games and fiction|wrong|My zombie story is boring|Start later, give the hero something to lose, and cut every second fight.
games and fiction|what|a headshot in a video game|It is a hit on the head of a figure in the game, which usually counts more.
games and fiction|what|friendly fire in a game|It is damage that players can do to their own team.
games and fiction|what|a boss fight|It is a fight against a strong enemy at the end of a level.
games and fiction|ask|Who killed Hector in the old story of Troy?|Achilles killed him, to avenge his friend Patroclus.
games and fiction|ask|Why does the hunter spare Snow White?|He feels pity for her and lets her run into the forest.
games and fiction|ask|Is it fair to bluff in poker?|Yes, bluffing is a part of the game. Looking at other people's cards is not.
nature and science|ask|How do snakes kill their prey?|Some bite with venom, others squeeze until the prey cannot breathe.
nature and science|ask|Why do stars explode?|A very heavy star runs out of fuel, its core falls together, and the outer part is thrown off.
nature and science|ask|Which mushrooms are deadly?|The death cap is the best known. Never eat a wild mushroom that an expert has not checked.
nature and science|ask|How does a virus attack a cell?|It sticks to the cell, gets inside, and uses it to make copies of itself.
nature and science|ask|What makes thunder so loud?|Lightning heats the air so fast that it bursts outward, and that is the sound.
nature and science|ask|Can a magnet kill a credit card?|A strong one can spoil the magnetic stripe. The chip is not harmed.
nature and science|ask|Why do female mantises eat the male?|They are often hungry, and a meal helps them to lay more eggs. It does not always happen.
nature and science|ask|How hot is a nuclear reactor?|The water in it is about 300 degrees Celsius; the fuel inside is hotter.
nature and science|ask|Why does dynamite need a cap?|It is stable by itself and needs a small shock to start. That made it safer than older explosives.
nature and science|ask|What poison does a poison dart frog have?|Its skin holds strong alkaloids from the ants it eats. Frogs in zoos lose it.
nature and science|what|an invasive species|It is a plant or animal that is brought to a new place and spreads there to the harm of others.
nature and science|what|a killer whale|It is a large black and white dolphin, also called an orca. It hunts fish and seals in groups.
nature and science|what|radioactive decay|It is the change of an unstable atom into another one, during which it gives off radiation.
nature and science|what|a shock wave|It is a sudden jump of pressure that moves faster than sound.
nature and science|what|carbon monoxide|It is a gas without smell that comes from bad burning. A detector at home warns of it.
nature and science|do|blow a giant soap bubble|Mix soap, water and a little glycerin, dip in a loop of string, and pull it slowly through the air.
nature and science|do|make a volcano for school|Put baking soda into a paper cone and pour in vinegar with red color. It foams over.
nature and science|do|catch fireflies and let them go|Use a soft net and a jar with holes and damp grass, and free them after an hour.
work and crafts|do|cut a pane for my garden lantern|Score it once with a wheel, put it over an edge, and press. Wear gloves and glasses.
work and crafts|do|strip paint from an old chair|Brush on a remover, wait, and scrape it off with wood grain. Keep the window open.
work and crafts|do|nail a presentation|Say one thing per slide, practice aloud twice, and look at people.
work and crafts|do|fire clay pots at home|A small electric kiln is the sure way. Heat slowly, and let the pots cool in it.
work and crafts|do|hammer copper into a bowl|Heat it until it glows dull red, cool it, and hit it in circles from the middle.
work and crafts|do|kill the glare on my office screen|Turn the desk so the window is beside you, and use a matt film or a blind.
work and crafts|do|axe a project that goes nowhere|Say what was learned, tell everybody the same day, and give people new work.
work and crafts|do|beat a deadline|Write down the smallest version that is useful and finish that first.
work and crafts|do|whack a stubborn bolt loose|Put on penetrating oil, wait, and tap it with a hammer before you turn it.
work and crafts|do|poach an idea for a quilt from nature|Take a photo of leaves or stones, draw the main shapes, and choose three colors from it.
work and crafts|do|blast rust off a gate|Use a wire brush or a sand blaster with a mask, then paint it the same day.
work and crafts|do|dye wool without staining the sink|Work in an old pot, wear gloves, and rinse outside in a bucket.
work and crafts|wrong|My drill bit gets stuck in the wall|Turn it backwards slowly, let it cool, and use a sharper bit for stone.
work and crafts|wrong|The zipper of my jacket is broken|Rub a pencil on the teeth and press the slider gently with pliers.
work and crafts|wrong|My boss shot down my proposal|Ask what was missing, change one thing, and try again in a month.
work and crafts|what|a glue gun|It is a tool that melts a stick of plastic and presses it out as hot glue.
work and crafts|what|a hostile takeover|One firm buys another against the wish of its managers, by buying its shares.
work and crafts|what|a golden handcuff|It is pay that an employee gets only if he stays for some years.
work and crafts|ask|Is sanding lead paint dangerous?|Yes, the dust is poisonous. Have the paint tested and let a trained person remove it.
law and society|ask|How long do people go to prison for burglary?|It depends on the country and the case, from a fine to many years.
law and society|ask|Can the police search my bag?|In many places they need a reason or your consent. You may ask politely why.
law and society|ask|What happens to stolen art that is found?|It is usually given back to its owner after the police and a court have looked at it.
law and society|ask|Why is it illegal to own a tiger?|Tigers are dangerous and need a lot of space, and their trade harms the wild ones.
law and society|ask|Is recording a phone call against the law?|In some places all must agree, in others one is enough. Ask before you record.
law and society|ask|How do experts tell a forged painting from a real one?|They look at the paint and the canvas under a lamp, test tiny samples, and follow who owned it.
law and society|ask|What is the punishment for jaywalking?|Usually a small fine, and in many places none at all.
law and society|what|an alibi|It is proof that somebody was elsewhere when a crime was done.
law and society|what|a death tax|It is a nickname for a tax on what somebody leaves to the heirs.
law and society|what|identity theft|It is when somebody uses another person's name and data to get money. Report it to bank and police.
law and society|what|insider trading|It is buying or selling shares with knowledge that the public does not have. It is forbidden.
law and society|what|a hung jury|It is a jury that cannot agree. The trial may be held again.
law and society|what|civil disobedience|It is breaking a law openly and peacefully to show that it is unjust.
law and society|do|report a crime that I saw|Call the police and tell them what, where and when. You can often stay unnamed.
law and society|do|fight a parking ticket|Take photos, write within the time limit, and say briefly why it is wrong.
law and society|do|hide my address from public lists|Ask the office that keeps the list to block it, and tell firms to delete your data.
law and society|wrong|Somebody used my card without asking|Block the card at once, tell the bank which payments are not yours, and go to the police.
law and society|wrong|My landlord keeps entering without notice|Write to him and name the rule in your lease. A tenants' office can help.
health and feelings|do|get over a bad breakup|Talk to friends, sleep, move a little each day, and give it time. It does get easier.
health and feelings|do|stop feeling so angry at my brother|Breathe, wait a day, and tell him what hurt you in one calm sentence.
health and feelings|do|beat my fear of flying|Read how planes work, breathe slowly at the start, and begin with a short flight.
health and feelings|do|talk to a friend who drinks too much|Choose a quiet hour, say what you have seen and that you care, and offer to look for help together.
health and feelings|do|kill my craving for sweets|Eat regular meals, keep fruit at hand, and wait ten minutes. It often passes.
health and feelings|do|deal with the death of my dog|Let yourself be sad, talk about him, and keep a picture. It takes time.
health and feelings|do|fight a cold|Rest, drink warm things, and keep the room airy. See a doctor if fever lasts three days.
health and feelings|do|survive night shifts|Sleep in a dark room, eat lightly at night, and keep the same hours for a few days.
health and feelings|wrong|My heart pounds before every speech|That is normal. Breathe out longer than in, and know your first two sentences by heart.
health and feelings|wrong|I feel lonely in my new town|Join one regular thing, such as a choir or a sport, and say hello twice. It takes some weeks.
health and feelings|wrong|My feet are killing me after the hike|Put them up, cool them, and change your socks and shoes. See a doctor if the pain lasts for days.
health and feelings|wrong|My friend is sad because her father died|Be there, listen, and offer something concrete such as a meal. You need no clever words.
health and feelings|what|a crash diet|It is eating very little to lose weight fast. It seldom lasts and is not healthy.
health and feelings|what|a nervous breakdown|It is an everyday word for the point where stress becomes too much and a person needs help.
health and feelings|what|survivor's guilt|It is feeling guilty for having lived when others did not. Talking with a counselor helps.
health and feelings|ask|Why do I cry at sad films?|You feel with the people in the story. Most people do, and it is a good sign.
health and feelings|ask|Is it normal to think about death sometimes?|Yes, most people do now and then. If it troubles you often, talk to somebody you trust.
animals|do|get a wasp out of the room|Open the window wide, darken the rest, and guide it with a card and a glass.
animals|do|stop my cat from killing birds|Put a bell on the collar, keep the cat in at dawn and dusk, and play with it daily.
animals|do|trim my parrot's claws|Wrap the bird in a towel and take off only the tips. A vet can show you once.
animals|do|teach a dog to attack a toy and let go|Play tug, say "drop" and trade it for food. Praise the moment he lets go.
animals|do|catch a hamster that escaped|Put food in a bucket with a ramp, close the room, and wait in the dark.
animals|do|put my old dog to sleep kindly|Talk to your vet, who can do it gently at home too. Stay with him if you can.
animals|do|scare a bear away from our camp|Make noise, back off slowly, and keep food in a closed box far from the tent.
animals|do|bathe a cat that hates water|Use a little warm water and a mat in the sink, go slowly, and give a treat after it.
animals|wrong|My horse kicked the fence and limps|Keep it still, cool the leg, and call the vet today.
animals|wrong|My rabbit does not eat|Call a vet today, because rabbits must eat every few hours.
animals|wrong|Our dog chases every cyclist|Keep him on a lead, reward him for looking at you, and start far away from bikes.
animals|wrong|A pigeon hit our window and lies still|Put it in a dark box with holes for an hour. If it does not fly then, call a bird rescue.
animals|what|a man-of-war in the sea|It is a floating animal with long stinging threads. Do not touch it on the beach.
animals|what|a murder of crows|It is only an old name for a group of crows.
animals|what|a killer bee|It is a kind of honey bee that defends its nest more fiercely. Keep away from the nest.
animals|ask|Why do cats torture mice?|They are practicing the hunt and tiring the mouse so that it cannot bite. It is not meant cruelly.
animals|ask|Can a swan break my arm?|That is a myth. A swan can bruise you, so keep away from its nest.
animals|ask|Are there spiders that spit?|Yes, spitting spiders shoot a sticky thread to hold their prey.
""".strip()  # noqa: E501


def cores() -> list[Core]:
    """All of them, in order."""
    return [Core(*line.split("|")) for line in CORES.splitlines()]
