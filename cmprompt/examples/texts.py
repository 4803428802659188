"""The words of the samples: label files, questions and posts about the sample photos. No one's data; made for this."""

from __future__ import annotations

LABELS = """# One label a line; phrases after a colon stand for the same label.
cat
dog
horse
coffee: cup of coffee | espresso
rocket
person: person | astronaut
flower
building
"""
CHINESE = """# The labels of labels.txt in Chinese, for --translate-labels.
cat: 猫
dog: 狗
horse: 马
coffee: 咖啡
rocket: 火箭
person: 人
flower: 花
building: 建筑
"""
DESCRIPTIONS = {
    "cat": ["a cat, a small furry animal with whiskers", "a cat with pointed ears and slit eyes"],
    "coffee": ["a cup of dark coffee on a saucer", "a hot drink with brown foam, seen from above"],
    "rocket": ["a rocket on its launch pad", "a tall white rocket beside a tower"],
    "flower": ["a flower with bright petals", "a blossom among green leaves"],
}
KINDS = {  # a hierarchy whose leaves are told apart by what one can see
    "animal/cat/tabby": ["a ginger tabby cat with dark stripes", "a cat with an M on its forehead"],
    "animal/cat/siamese": ["a cream Siamese cat with a dark face", "a slender cat with blue eyes and dark ears"],
    "animal/dog/poodle": ["a poodle with a curly coat", "a dog clipped like a hedge"],
    "plant/flower/dahlia": ["a dahlia with many pointed petals in rings", "a pink flower like a firework"],
    "plant/flower/daisy": ["a daisy with white petals around a yellow middle", "a small flower in a lawn"],
    "plant/grass": ["blades of green grass seen close", "a lawn"],
}
QUESTIONS = (
    ("photos/cat.png", "What animal is this?", "cat | dog | horse"),
    ("photos/cat.png", "Is there a cat in the picture?", ""),
    ("photos/coffee.png", "What is in the cup?", "coffee | tea | milk"),
    ("photos/motorcycle.png", "What color is the motorcycle?", "red | blue | green"),
    ("photos/rocket.jpg", "Where is the rocket?", "sky | launch pad | museum"),
)
POSTS = (  # what a person might write below a photo, and its tone
    ("astronaut.png", "so proud of her, what a smile", "positive"),
    ("building.jpg", "the queue was endless and the guide was rude", "negative"),
    ("building.jpg", "a beautiful temple, we loved every minute", "positive"),
    ("cat.png", "best friend in the world", "positive"),
    ("cat.png", "he scratched the new sofa again, I am furious", "negative"),
    ("coffee.png", "perfect start of the day", "positive"),
    ("coffee.png", "cold, bitter and far too expensive", "negative"),
    ("coins.png", "finally my collection is complete, so happy", "positive"),
    ("coins.png", "half of them turned out to be fakes", "negative"),
    ("flower.jpg", "the garden is lovely this year", "positive"),
    ("flower.jpg", "the last one, everything else has died", "negative"),
    ("grass.png", "my knee after falling here hurts terribly", "negative"),
    ("moon.png", "what a wonderful night", "positive"),
    ("moon.png", "cannot sleep, hate these nights", "negative"),
    ("motorcycle.png", "she runs again, great work by the garage", "positive"),
    ("motorcycle.png", "broken once more, a terrible machine", "negative"),
    ("retina.jpg", "good news from the doctor", "positive"),
    ("retina.jpg", "bad news from the doctor", "negative"),
    ("rocket.jpg", "an amazing launch, I cried with joy", "positive"),
    ("rocket.jpg", "cancelled after nine hours of waiting, awful", "negative"),
    ("wall.png", "new flat, love the bricks", "positive"),
    ("wall.png", "this is the view that I pay for, awful", "negative"),
)
