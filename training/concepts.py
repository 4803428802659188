"""What the names mean: a hand-made table of parents, synonyms and words of captions, in the manner of WordNet.

A concept is one meaning with several wordings. An image is positive for its own concept and for all that stand above
it; concepts above or beside it that may or may not hold are left out of its loss.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
# parent wordings (a|b: synonyms) -> children: parents' first wording or a class's first name
TREE = (HERE / "tree.txt").read_text()

# words of captions -> concept; seen in two of five captions: it is there; in one: it may be
CAPTION_WORDS = (HERE / "caption_words.txt").read_text()

# labels of the small sets -> concept wording
LABELS = {
    "automobile": "car",
    "ship": "boat",
    "dress": "dress",
    "longsleeve": "long-sleeved shirt",
    "outwear": "coat",
    "pants": "trousers",
    "shoes": "shoe",
}

# groceries stand in a shop: what a coarse class is, besides its own name
FOOD_PARENTS = {
    "fruit": "Apple Avocado Banana Kiwi Lemon Lime Mango Melon Nectarine Orange Papaya Peach Pear Pineapple Plum "
    "Pomegranate Satsumas Passion_Fruit Red_Grapefruit",
    "vegetable": "Asparagus Aubergine Cabbage Carrots Cucumber Garlic Ginger Leek Onion Pepper Potato Red_Beet Tomato "
    "Zucchini",
    "drink": "Juice Milk Oat_Milk Soy_Milk Sour_Milk",
    "milk": "Milk Oat_Milk Soy_Milk Sour_Milk",
    "yoghurt": "Yoghurt Oatghurt Soyghurt",
    "juice": "Juice",
    "fungus": "Mushroom",
}

# often in the picture without being its name: left out of the loss rather than called wrong
MAYBE = {
    "person": "academic gown, apron, bikini, barbershop, kimono, military uniform, miniskirt, poncho, swimming trunks, "
    "vestment, neck brace, sombrero, bow tie, basketball, rugby ball, volleyball, snorkel, sunglasses, gasmask, oboe, "
    "dress, coat, trousers, skirt, shirt, t-shirt, shorts, long-sleeved shirt, hat, cardigan, fur coat, go-kart, "
    "jinrikisha, bicycle, motorcycle, punching bag, torch, skateboard, surfing, skiing, swing, soccer, umbrella",
    "flower": "bee, butterfly, ladybug, fly, mantis, grasshopper, dragonfly, spider, grass, tree",
    "water": "seashore, lakeside, boat, fountain, dam, coral reef, jellyfish, albatross, goose, rain, cliff, beach",
    "beach": "boat, swimwear, surfing, albatross, sunrise, cliff, dugong",
    "lake": "boat, goose, water, dam, viaduct, sunrise",
    "grass": "farm animal, dog, lawn mower, tractor, bison, antelope, deer, horse, tree, elephant, barn",
    "tree": "koala, lakeside, birdhouse, landscape, building, deer, bird, acorn, primate, swing",
    "forest": "tree, deer, bear, primate, lakeside, mushroom",
    "street": "vehicle, parking meter, pay-phone, building, bicycle, motorcycle, crowd",
    "building": "triumphal arch, shop, suspension bridge, fountain, altar, street, bannister, picket fence, tower, "
    "house",
    "house": "barn, cliff dwelling, building, picket fence, birdhouse",
    "snow": "alp, mountain, skiing, king penguin",
    "mountain": "cliff, lakeside, bighorn, viaduct, dam, skiing, sunrise, cloud, landscape",
    "cloud": "landscape, airplane, beacon, obelisk, sunrise, rain, shine, tower, bridge, boat",
    "shine": "landscape, airplane, obelisk, tower, bridge, boat, grass, flower, building",
    "sunrise": "landscape, water, beach",
    "landscape": "cloud, shine, sunrise, rain, grass, tree, snow, water, beach, lake, mountain, forest",
    "rain": "umbrella",
    "boat": "beach, water, lake, dam",
    "truck": "van, tractor, freight car, police van",
    "car": "police van, van, truck, parking meter, go-kart, street",
    "wild animal": "bird, mammal, reptile, amphibian, fish, insect",
    "pet": "bird, horse",
    "food": "wooden spoon, frying pan, wok, dining table, drink, grocery",
    "fruit": "juice, grocery",
    "drink": "teapot, water jug, grocery",
    "bottle": "water jug, juice, milk, drink",
    "grocery": "fruit, vegetable, food, bottle, confectionery, shop, butcher shop",
    "pot": "wok, frying pan",
    "table": "plate, food, coffee, wooden spoon",
    "man": "person, crowd",
    "woman": "person, crowd, dress, bikini, miniskirt, kimono",
    "child": "person, baby, crowd, swing",
    "crowd": "person, street",
    "clothing": "person, shoe, sunglasses, backpack, tie",
    "tie": "shirt",
    "shirt": "t-shirt, long-sleeved shirt, cardigan",
    "long-sleeved shirt": "shirt, sweater, coat, cardigan",
    "sweater": "long-sleeved shirt, coat",
    "coat": "cardigan, poncho, military uniform, sweater",
    "dress": "kimono, academic gown, vestment, skirt, woman",
    "hat": "military uniform, person",
    "weapon": "military uniform",
    "cat": "big cat",
    "toy": "ball",
    "fire": "candle, cannon",
    "lamp": "candle, table",
    "bicycle": "swing",
    "swing": "child",
    "structure": "barn, picket fence, flagpole, pole, house",
    "ball": "soccer, sports equipment",
    "sports equipment": "soccer, skateboard, surfing, skiing",
    "machine": "electronics, appliance, vehicle",
    "electronics": "stopwatch, appliance, pay-phone, cash machine",
}

# in most pictures of the class
OFTEN = {
    "flower": {"bee", "monarch", "sulphur butterfly"},
    "person": {
        "academic gown", "bikini", "kimono", "military uniform", "miniskirt", "poncho", "volleyball", "basketball",
        "rugby ball", "sombrero", "neck brace", "snorkel", "swimming trunks",
    },
}  # fmt: skip


@dataclass
class Concept:
    wordings: list[str]
    parents: set[str] = field(default_factory=set)
    maybe: set[str] = field(default_factory=set)


LATIN = re.compile(r"^[A-Z][a-z]+ [a-z]+$")


def without_latin(names: str) -> list[str]:
    """The synonyms of a comma-separated cell, less a closing Latin binomial."""
    words = [name.strip() for name in names.split(",")]
    return words[:-1] if len(words) > 1 and LATIN.match(words[-1]) else words


def first_name(wnids: dict[str, str], wnid: str) -> str:
    """A class's own name, less ambiguous than its first synonym where two classes share that."""
    return "construction crane" if wnid == "n03126707" else without_latin(wnids[wnid])[0]


def build(
    wnids: dict[str, str], groceries: dict[str, str], held_out: frozenset[str] = frozenset()
) -> dict[str, Concept]:
    """Concepts by key (first wording); `wnids` maps wnid to names, `groceries` maps fine to coarse."""
    table: dict[str, Concept] = {}
    for wnid, names in wnids.items():
        if wnid not in held_out:
            key, words = first_name(wnids, wnid), without_latin(names)
            table[key] = Concept(words if key == words[0] else [key, *words])
    banned = {first_name(wnids, wnid) for wnid in held_out}
    _add_tree(table, banned)
    _add_groceries(table, groceries)
    for key, others in MAYBE.items():
        for other in (o.strip() for o in others.split(",")):
            if other in table and key in table:
                table[other].maybe.add(key)
    return {key: Concept(c.wordings, *_above(table, key)) for key, c in table.items()}


def _add_tree(table: dict[str, Concept], banned: set[str]) -> None:
    for line in TREE.strip().splitlines():
        head, _, children = line.partition(":")
        wordings = head.split("|")
        concept = table.setdefault(wordings[0], Concept([]))
        concept.wordings = list(dict.fromkeys(wordings + concept.wordings))
        for child in (c.strip() for c in children.split(",") if c.strip()):
            if child not in banned:
                table.setdefault(child, Concept([child])).parents.add(wordings[0])
    for key, concept in table.items():
        concept.wordings = concept.wordings or [key]


def _add_groceries(table: dict[str, Concept], groceries: dict[str, str]) -> None:
    parents = {name.replace("_", " "): p for p, names in FOOD_PARENTS.items() for name in names.split()}
    for fine, coarse in groceries.items():
        low = coarse.lower()
        table.setdefault(low, Concept([low])).parents |= {"food", "grocery", parents.get(coarse, "food")} - {low}
        if fine.lower() != low:
            table.setdefault(fine.lower(), Concept([fine])).parents.add(low)


def _above(table: dict[str, Concept], key: str) -> tuple[set[str], set[str]]:
    """All ancestors of a concept, and what may hold for it or for any of them."""
    seen: set[str] = set()
    todo = [key]
    while todo:
        for parent in table[todo.pop()].parents:
            if parent not in seen and parent in table:
                seen.add(parent)
                todo.append(parent)
    maybe = {m for name in (key, *seen) for m in table[name].maybe}
    return seen, maybe - seen - {key}


def caption_words() -> dict[str, frozenset[str]]:
    """Concept -> the words of a caption that show it."""
    lines = (line.partition(":") for line in CAPTION_WORDS.strip().splitlines())
    return {head: frozenset(words.split()) for head, _, words in lines}
