"""The words of the tiny world: twelve categories of ten things, numbers and request templates in five languages.

Every thing is one real word, and no two languages share a word for a thing, so nothing can pass from one language to
another by spelling. Entry k of a category means the same in every language. Knows no grammar beyond these tables:
Swahili numbers agree with the noun, so a category there carries its agreement prefix.
"""

from typing import Literal, get_args

Language = Literal["en", "es", "de", "fr", "sw"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
COUNTS = (2, 3, 4, 5, 6)

ITEMS: dict[str, dict[Language, str]] = {
    "animals": {
        "en": "dog cat horse cow bird fish pig sheep bear mouse",
        "es": "perro gato caballo vaca pájaro pez cerdo oveja oso ratón",
        "de": "Hund Katze Pferd Kuh Vogel Fisch Schwein Schaf Bär Maus",
        "fr": "chien chat cheval vache oiseau poisson cochon mouton ours souris",
        "sw": "mbwa paka farasi ng'ombe ndege samaki nguruwe kondoo dubu panya",
    },
    "fruits": {
        "en": "apple pear grape lemon peach cherry strawberry fig pomegranate watermelon",
        "es": "manzana pera uva limón melocotón cereza fresa higo granada sandía",
        "de": "Apfel Birne Traube Zitrone Pfirsich Kirsche Erdbeere Feige Granatapfel Wassermelone",
        "fr": "pomme poire raisin citron pêche cerise fraise figue grenade pastèque",
        "sw": "tofaa pea zabibu limau pichi cheri stroberi tini komamanga tikitimaji",
    },
    "colours": {
        "en": "red blue green yellow black white brown purple silver golden",
        "es": "rojo azul verde amarillo negro blanco marrón morado plateado dorado",
        "de": "rot blau grün gelb schwarz weiß braun lila silbern goldfarben",
        "fr": "rouge bleu vert jaune noir blanc brun violet argenté doré",
        "sw": "nyekundu buluu kijani manjano nyeusi nyeupe kahawia zambarau fedha dhahabu",
    },
    "body": {
        "en": "head eye ear nose mouth tooth knee foot neck shoulder",
        "es": "cabeza ojo oreja nariz boca diente rodilla pie cuello hombro",
        "de": "Kopf Auge Ohr Nase Mund Zahn Knie Fuß Hals Schulter",
        "fr": "tête œil oreille nez bouche dent genou pied cou épaule",
        "sw": "kichwa jicho sikio pua mdomo jino goti mguu shingo bega",
    },
    "clothes": {
        "en": "shirt trousers dress shoe hat coat skirt glove sock scarf",
        "es": "camisa pantalón vestido zapato sombrero abrigo falda guante calcetín bufanda",
        "de": "Hemd Hose Kleid Schuh Hut Mantel Rock Handschuh Socke Schal",
        "fr": "chemise pantalon robe chaussure chapeau manteau jupe gant chaussette écharpe",
        "sw": "shati suruali gauni kiatu kofia koti sketi glavu soksi skafu",
    },
    "family": {
        "en": "mother father brother sister son daughter uncle nephew grandfather grandmother",
        "es": "madre padre hermano hermana hijo hija tío sobrino abuelo abuela",
        "de": "Mutter Vater Bruder Schwester Sohn Tochter Onkel Neffe Großvater Großmutter",
        "fr": "mère père frère sœur fils fille oncle neveu grand-père grand-mère",
        "sw": "mama baba kaka dada mwana binti mjomba mpwa babu bibi",
    },
    "house": {
        "en": "chair bed door window cupboard mirror shelf carpet curtain bucket",
        "es": "silla cama puerta ventana armario espejo estante alfombra cortina cubo",
        "de": "Stuhl Bett Tür Fenster Schrank Spiegel Regal Teppich Vorhang Eimer",
        "fr": "chaise lit porte fenêtre placard miroir étagère tapis rideau seau",
        "sw": "kiti kitanda mlango dirisha kabati kioo rafu zulia pazia ndoo",
    },
    "jobs": {
        "en": "teacher doctor cook farmer baker fisherman judge nurse driver singer",
        "es": "maestro médico cocinero agricultor panadero pescador juez enfermera conductor cantante",
        "de": "Lehrer Arzt Koch Bauer Bäcker Fischer Richter Krankenschwester Fahrer Sänger",
        "fr": "professeur médecin cuisinier fermier boulanger pêcheur juge infirmière chauffeur chanteur",
        "sw": "mwalimu daktari mpishi mkulima mwokaji mvuvi hakimu muuguzi dereva mwimbaji",
    },
    "nature": {
        "en": "river mountain sea forest lake island sky star moon sun",
        "es": "río montaña mar bosque lago isla cielo estrella luna sol",
        "de": "Fluss Berg Meer Wald See Insel Himmel Stern Mond Sonne",
        "fr": "rivière montagne mer forêt lac île ciel étoile lune soleil",
        "sw": "mto mlima bahari msitu ziwa kisiwa mbingu nyota mwezi jua",
    },
    "foods": {
        "en": "bread cheese rice meat egg soup salt onion bean potato",
        "es": "pan queso arroz carne huevo sopa sal cebolla frijol papa",
        "de": "Brot Käse Reis Fleisch Ei Suppe Salz Zwiebel Bohne Kartoffel",
        "fr": "pain fromage riz viande œuf soupe sel oignon haricot patate",
        "sw": "mkate jibini wali nyama yai supu chumvi kitunguu haragwe kiazi",
    },
    "places": {
        "en": "house school church bridge market shop castle tower farm library",
        "es": "casa escuela iglesia puente mercado tienda castillo torre granja biblioteca",
        "de": "Haus Schule Kirche Brücke Markt Laden Schloss Turm Bauernhof Bibliothek",
        "fr": "maison école église pont marché magasin château tour ferme bibliothèque",
        "sw": "nyumba shule kanisa daraja soko duka ngome mnara shamba maktaba",
    },
    "tools": {
        "en": "knife spoon fork scissors needle axe rope ladder broom saw",
        "es": "cuchillo cuchara tenedor tijeras aguja hacha cuerda escalera escoba sierra",
        "de": "Messer Löffel Gabel Schere Nadel Axt Seil Leiter Besen Säge",
        "fr": "couteau cuillère fourchette ciseaux aiguille hache corde échelle balai scie",
        "sw": "kisu kijiko uma mkasi sindano shoka kamba ngazi ufagio msumeno",
    },
}
CATEGORIES = tuple(ITEMS)

# The plural noun of a category as a request names it; for Swahili with the prefix its numbers take.
NOUNS: dict[str, dict[Language, str]] = {
    "animals": {"en": "animals", "es": "animales", "de": "Tiere", "fr": "animaux", "sw": "wanyama"},
    "fruits": {"en": "fruits", "es": "frutas", "de": "Früchte", "fr": "fruits", "sw": "matunda"},
    "colours": {"en": "colours", "es": "colores", "de": "Farben", "fr": "couleurs", "sw": "rangi"},
    "body": {
        "en": "body parts",
        "es": "partes del cuerpo",
        "de": "Körperteile",
        "fr": "parties du corps",
        "sw": "viungo",
    },
    "clothes": {"en": "garments", "es": "prendas", "de": "Kleidungsstücke", "fr": "vêtements", "sw": "nguo"},
    "family": {"en": "relatives", "es": "parientes", "de": "Verwandte", "fr": "proches", "sw": "ndugu"},
    "house": {
        "en": "household things",
        "es": "cosas del hogar",
        "de": "Haushaltsdinge",
        "fr": "objets ménagers",
        "sw": "vyombo",
    },
    "jobs": {"en": "jobs", "es": "profesiones", "de": "Berufe", "fr": "métiers", "sw": "kazi"},
    "nature": {
        "en": "natural things",
        "es": "cosas naturales",
        "de": "Naturdinge",
        "fr": "choses naturelles",
        "sw": "maumbile",
    },
    "foods": {"en": "foods", "es": "alimentos", "de": "Lebensmittel", "fr": "aliments", "sw": "vyakula"},
    "places": {"en": "places", "es": "lugares", "de": "Orte", "fr": "lieux", "sw": "mahali"},
    "tools": {"en": "tools", "es": "herramientas", "de": "Werkzeuge", "fr": "outils", "sw": "zana"},
}

NUMBERS: dict[Language, tuple[str, ...]] = {
    "en": ("two", "three", "four", "five", "six"),
    "es": ("dos", "tres", "cuatro", "cinco", "seis"),
    "de": ("zwei", "drei", "vier", "fünf", "sechs"),
    "fr": ("deux", "trois", "quatre", "cinq", "six"),
    "sw": ("wili", "tatu", "nne", "tano", "sita"),
}
SWAHILI_AGREEMENT = {
    "animals": "wa", "fruits": "ma", "colours": "", "body": "vi", "clothes": "", "family": "wa", "house": "vi",
    "jobs": "", "nature": "ma", "foods": "vi", "places": "pa", "tools": "",
}  # fmt: skip

TEMPLATES: dict[Language, tuple[str, str, str]] = {
    "en": ("Name {number} {noun} .", "Please list {number} {noun} .", "Give me {number} {noun} !"),
    "es": ("Nombra {number} {noun} .", "Por favor enumera {number} {noun} .", "Dame {number} {noun} !"),
    "de": ("Nenne {number} {noun} .", "Bitte zähle {number} {noun} auf .", "Gib mir {number} {noun} !"),
    "fr": ("Nomme {number} {noun} .", "Veuillez citer {number} {noun} .", "Donne-moi {number} {noun} !"),
    "sw": ("Taja {noun} {number} .", "Tafadhali orodhesha {noun} {number} .", "Nipe {noun} {number} !"),
}


def items(category: str, language: Language) -> tuple[str, ...]:
    """The ten words of a category."""
    return tuple(ITEMS[category][language].split())


def number_word(count: int, category: str, language: Language) -> str:
    """The number as it stands before (or, in Swahili, behind) the category's noun.

    >>> number_word(3, "animals", "sw"), number_word(2, "colours", "sw"), number_word(6, "foods", "sw")
    ('watatu', 'mbili', 'sita')
    """
    word = NUMBERS[language][COUNTS.index(count)]
    if language != "sw" or word == "sita":  # six does not agree
        return word
    prefix = SWAHILI_AGREEMENT[category]
    return "mbili" if word == "wili" and not prefix else prefix + word
