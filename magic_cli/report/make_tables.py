"""Published zero-shot scores of contrastive models in dermatology: the tables of the MAKE paper.

Source: Yan et al., "MAKE: Multi-Aspect Knowledge-Enhanced Vision-Language Pretraining for Zero-shot Dermatological
Assessment" (MICCAI 2025), Tables 1 to 3. None are cells that are not legible in the copy that was read; that of Table 1
has run some cells together, and their order was settled by the averages printed beside them. "+" is the paper's dagger:
Derm1M with disease and concept texts put before the raw text.
"""

from collections.abc import Mapping

SOURCE = "MAKE (MICCAI 2025), Tables 1 to 3"

Cells = tuple[float | None, ...]

CLASSES = ("PAD_accuracy", "F17K_accuracy", "SD-128_accuracy", "SNU-134_accuracy", "average_accuracy")

_CONCEPTS = ("SkinCon_auroc", "Derm7pt_auroc", "average_auroc")

_RETRIEVAL = tuple(f"SkinCAP_{way}_recall@{k}" for way in ("i2t", "t2i") for k in (10, 50, 100))

KEYS: Mapping[str, tuple[str, ...]] = {
    "Table 1": (*CLASSES, *_CONCEPTS),
    "Table 2": (*_RETRIEVAL, "SkinCAP_average_recall"),
    "Table 3": CLASSES,
}

TABLES: Mapping[str, tuple[tuple[str, *Cells], ...]] = {
    "Table 1": (
        ("CLIP, CLIP400M", 0.4330, 0.0628, None, None, 0.1604, 0.6642, 0.5594, 0.6118),
        ("BiomedCLIP, PMC-15M", 0.4295, 0.0890, 0.1321, 0.0971, 0.1869, None, None, None),
        ("PMC-CLIP, PMC-OA", 0.4312, 0.0268, 0.0443, 0.0390, 0.1353, 0.6251, 0.5820, 0.6036),
        ("MONET, PubMed+TextBook", 0.4308, 0.1409, 0.2072, 0.1333, 0.2280, 0.7502, 0.6889, 0.7196),
        ("CLIP, Derm1M", 0.5957, 0.2595, 0.3349, 0.2689, 0.3648, 0.7233, 0.6707, 0.6970),
        ("SigLIP, Derm1M", 0.5113, 0.2718, 0.3574, 0.2875, 0.3570, 0.7649, 0.6867, 0.7258),
        ("CoCa/ViT-B-32, Derm1M", 0.5635, 0.2019, 0.2862, 0.1942, 0.3115, 0.6431, 0.6289, 0.6360),
        ("CLIP, Derm1M+", 0.5631, 0.2559, 0.3189, 0.2485, 0.3466, 0.7348, 0.6900, 0.7124),
        ("SigLIP, Derm1M+", 0.5892, 0.2369, 0.3045, 0.2385, 0.3423, 0.6860, 0.5701, 0.6281),
        ("CoCa/ViT-B-32, Derm1M+", 0.5688, 0.2040, 0.2557, 0.2289, 0.3144, 0.6715, 0.6408, 0.6562),
        ("MAKE, Derm1M+", 0.5953, 0.3242, 0.3914, 0.3270, 0.4095, 0.7873, 0.6864, 0.7369),
    ),
    "Table 2": (
        ("CLIP, CLIP400M", 0.0913, 0.2354, 0.3407, 0.0592, 0.1860, 0.2760, 0.1981),
        ("BiomedCLIP, PMC-15M", 0.1359, 0.3429, 0.4698, 0.1238, 0.3304, 0.4578, 0.3101),
        ("PMC-CLIP, PMC-OA", 0.0672, 0.1908, 0.2783, 0.0649, 0.1855, 0.2652, 0.1753),
        ("MONET, PubMed+TextBook", 0.1421, 0.3384, 0.4568, 0.1492, 0.3490, 0.4756, 0.3185),
        ("CLIP, Derm1M", 0.1532, 0.3590, 0.4851, 0.1552, 0.3715, 0.4728, 0.3328),
        ("SigLIP, Derm1M", 0.1757, 0.3783, 0.4871, 0.1843, 0.3896, 0.4974, 0.3521),
        ("CoCa/ViT-B-32, Derm1M", 0.1193, 0.2865, 0.3833, 0.1291, 0.3078, 0.4089, 0.2723),
        ("CLIP, Derm1M+", 0.1587, 0.3700, 0.4788, 0.1592, 0.3537, 0.4675, 0.3313),
        ("SigLIP, Derm1M+", 0.1835, 0.3803, 0.5006, 0.1750, 0.3793, 0.4951, 0.3523),
        ("CoCa/ViT-B-32, Derm1M+", 0.1406, 0.3241, 0.4214, 0.1429, 0.3269, 0.4202, 0.2960),
        ("MAKE, Derm1M+", 0.2096, 0.4440, 0.5613, 0.1995, 0.4420, 0.5628, 0.4032),
    ),
    "Table 3": (
        ("CLIP", 0.5957, 0.2595, 0.3349, 0.2689, 0.3648),
        ("mkcl without subtexts", 0.6023, 0.3142, 0.3465, 0.2775, 0.3851),
        ("mkcl", 0.6062, 0.3210, 0.3533, 0.2984, 0.3947),
        ("mkcl, slra", 0.5653, 0.3191, 0.4019, 0.3227, 0.4023),
        ("mkcl, slra, dkw", 0.5953, 0.3242, 0.3914, 0.3270, 0.4095),
    ),
}
