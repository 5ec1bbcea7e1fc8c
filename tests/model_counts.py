"""Parameters and multiply-accumulates of the published models at 32x32, three input channels and ten classes.

COUNTS[model, scheme, groups]. "dw+gpw" stands for every grouped or sliding scheme: they have the same counts, whatever
the overlap. All follow from the published code's definitions, and test_models_match_pytorch.py counts the same in
PyTorch. A "standard" MobileNet is not published: it has a 3x3 convolution without bias and a batch norm a block.

IMAGENET has the well-known counts at 224x224 with 1000 classes, scheme "standard".
"""

COUNTS = {
    ("vgg11", "standard", 1): (9_231_114, 152_769_536),
    ("vgg11", "dw+pw", 1): (1_061_514, 19_067_904),
    ("vgg11", "dw+gpw", 2): (549_514, 10_679_296),
    ("vgg11", "dw+gpw", 4): (293_514, 6_484_992),
    ("vgg11", "dw+gpw", 8): (165_514, 4_387_840),
    ("vgg13", "standard", 1): (9_416_010, 228_267_008),
    ("vgg13", "dw+pw", 1): (1_084_490, 28_341_248),
    ("vgg13", "dw+gpw", 2): (562_250, 15_758_336),
    ("vgg13", "dw+gpw", 4): (301_130, 9_466_880),
    ("vgg13", "dw+gpw", 8): (170_570, 6_321_152),
    ("vgg16", "standard", 1): (14_728_266, 313_201_664),
    ("vgg16", "dw+pw", 1): (1_690_954, 38_018_048),
    ("vgg16", "dw+gpw", 2): (873_802, 20_716_544),
    ("vgg16", "dw+gpw", 4): (465_226, 12_065_792),
    ("vgg16", "dw+gpw", 8): (260_938, 7_740_416),
    ("vgg19", "standard", 1): (20_040_522, 398_136_320),
    ("vgg19", "dw+pw", 1): (2_297_418, 47_694_848),
    ("vgg19", "dw+gpw", 2): (1_185_354, 25_674_752),
    ("vgg19", "dw+gpw", 4): (629_322, 14_664_704),
    ("vgg19", "dw+gpw", 8): (351_306, 9_159_680),
    ("resnet18", "standard", 1): (11_173_962, 555_422_720),
    ("resnet18", "dw+pw", 1): (5_624_522, 289_199_104),
    ("resnet18", "dw+gpw", 2): (5_276_362, 272_421_888),
    ("resnet18", "dw+gpw", 4): (5_102_282, 264_033_280),
    ("resnet18", "dw+gpw", 8): (5_015_242, 259_838_976),
    ("resnet34", "standard", 1): (21_282_122, 1_159_402_496),
    ("resnet34", "dw+pw", 1): (11_263_882, 626_586_624),
    ("resnet34", "dw+gpw", 2): (10_635_146, 593_032_192),
    ("resnet34", "dw+gpw", 4): (10_320_778, 576_254_976),
    ("resnet34", "dw+gpw", 8): (10_163_594, 567_866_368),
    ("resnet50", "standard", 1): (23_520_842, 1_297_829_888),
    ("resnet50", "dw+pw", 1): (13_502_602, 765_014_016),
    ("resnet50", "dw+gpw", 2): (12_873_866, 731_459_584),
    ("resnet50", "dw+gpw", 4): (12_559_498, 714_682_368),
    ("resnet50", "dw+gpw", 8): (12_402_314, 706_293_760),
    ("mobilenet", "standard", 1): (28_279_338, 397_256_704),
    ("mobilenet", "dw+pw", 1): (3_228_138, 46_354_432),
    ("mobilenet", "dw+gpw", 2): (1_658_346, 24_334_336),
    ("mobilenet", "dw+gpw", 4): (873_450, 13_324_288),
    ("mobilenet", "dw+gpw", 8): (481_002, 7_819_264),
}

IMAGENET = {
    "resnet18": (11_689_512, 1_814_073_344),
    "resnet34": (21_797_672, 3_663_761_408),
    "resnet50": (25_557_032, 4_089_184_256),
}

MIXING = ("dw+gpw", "dw+gpw+shuffle", "dw+scc")  # schemes of equal counts


def cases():
    """(model, scheme, groups, counts) of every entry, the grouped ones in each scheme of MIXING."""
    for (model, scheme, groups), counts in COUNTS.items():
        for name in MIXING if scheme == "dw+gpw" else (scheme,):
            yield model, name, groups, counts
