"""The checkpoints that cmprompt recommends, as data.

`imagenet` is the published zero-shot top-1 in per cent: open_clip's results table, or the model's own card.
A model without a pin is the one that the hub serves at the first `models pull`: that revision is written to the local
manifest, with the sha256 of each file, and stays until the next pull.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from cmprompt.errors import ModelError, UnknownModel, UsageError, unknown

Speed = Literal["fastest", "fast", "medium", "slow"]

MIT = "MIT"
APACHE = "Apache-2.0"
APPLE = "Apple research licence (non-commercial)"
CC_BY_NC = "CC-BY-NC-4.0"
NOT_COMMERCIAL = (APPLE, CC_BY_NC)
UNSTATED = "not known here; see its page on the hub"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")  # how their files' names end
PICKLED = "published as a pickle only"

# The first that occurs in the hub's repository name decides; what open_clip trained itself is MIT.
LICENCES = (
    ("mobileclip", APPLE),
    ("apple/", APPLE),
    ("dfn", APPLE),
    ("metaclip", CC_BY_NC),
    ("nllb", CC_BY_NC),
    ("siglip", APACHE),
    ("pe-core", APACHE),
    ("laion/", MIT),
    (".openai", MIT),
)


@dataclass(frozen=True)
class Pin:
    """A commit of a hub repository, and the sha256 of the weights there, where it is known beforehand."""

    revision: str
    sha256: str | None = None


@dataclass(frozen=True)
class Model:
    """One checkpoint: what open_clip calls it, where the hub has it, and what to expect of it."""

    name: str
    architecture: str
    tag: str
    repo: str
    size_mb: int | None = None
    imagenet: float | None = None
    speed: Speed | None = None
    size_px: int | None = None
    context: int | None = None
    note: str = ""
    extra: str = ""  # the optional dependencies that its tokenizer needs, which has files of its own
    pin: Pin | None = None

    @property
    def licence(self) -> str:
        return licence_of(self.repo)

    @property
    def commercial(self) -> bool:
        return self.licence not in NOT_COMMERCIAL


ZOO = (
    Model(
        "ViT-B-32-256", "ViT-B-32-256", "datacomp_s34b_b86k", "laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K",
        605, 72.8, "fast", 256, 77, "recommended: the best for its speed",
        pin=Pin(
            "4afec35ffe57a943d569ff7ee888061830164da8",
            "92c26d60d3200ed5ed040dff31a8d19f8140648da8007216c25744c478deef27",
        ),
    ),
    Model(
        "ViT-B-32", "ViT-B-32", "datacomp_xl_s13b_b90k", "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K",
        605, 69.2, "fast", 224, 77,
        pin=Pin(
            "f0e2ffa09cbadab3db6a261ec1ec56407ce42912",
            "3c00043509d2e3f35ec62bd85a643a393883dcda624d8208d034cc390c708297",
        ),
    ),
    Model(
        "ViT-B-32-laion2b", "ViT-B-32", "laion2b_s34b_b79k", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        605, 66.6, "fast", 224, 77,
        pin=Pin(
            "1a25a446712ba5ee05982a381eed697ef9b435cf",
            "ac4f8c4b88af6d963118cbf40ad93176d092abbedfcb752601ae1866352656e6",
        ),
    ),
    Model(
        "ViT-B-32-openai", "ViT-B-32-quickgelu", "openai", "timm/vit_base_patch32_clip_224.openai",
        605, 63.3, "fast", 224, 77, "the original CLIP",
        pin=Pin(
            "a6f597a30f7b82c51704746581f9a4e41421e878",
            "e6d1bd7789aa45192b3bf90570a789b478bae1b74ebcce7eddd908e83a2b7c31",
        ),
    ),
    Model(
        "ViT-B-16", "ViT-B-16", "datacomp_xl_s13b_b90k", "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K",
        598, 73.5, "medium", 224, 77,
        pin=Pin(
            "05fa70d888b3dcddcaeb5906c71e35e736bc8d42",
            "783dcd825e1a3532faa77a2537bbc041353779a7579d904e547a61d5aa18ac24",
        ),
    ),
    Model(
        "ViT-L-14", "ViT-L-14", "datacomp_xl_s13b_b90k", "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K",
        1710, 79.2, "slow", 224, 77, f"{PICKLED}: see models convert",
    ),
    Model(
        "PE-Core-B-16", "PE-Core-B-16", "meta", "timm/PE-Core-B-16",
        1791, 78.4, "medium", 224, 32,
        pin=Pin("0038414f37721c5eafc1a5e0da802d291c909de3"),
    ),
    Model(
        "PE-Core-L-14-336", "PE-Core-L-14-336", "meta", "timm/PE-Core-L-14-336",
        2685, 83.5, "slow", 336, 32,
        pin=Pin(
            "8eff41b3f687e50a323662c2dda5eb3588c6dd35",
            "b1fff7093c32a01d98a2d82098f9adf788b30f0efee639916520b3e4302f786b",
        ),
    ),
    Model(
        "ViT-B-16-SigLIP2-256", "ViT-B-16-SigLIP2-256", "webli", "timm/ViT-B-16-SigLIP2-256",
        1501, 79.1, "medium", 256, 64, "multilingual", "multilingual",
        pin=Pin("fb14461786ff5cd7b18210817522546f28c7143a"),
    ),
    Model(
        "ViT-SO400M-16-SigLIP2-256", "ViT-SO400M-16-SigLIP2-256", "webli", "timm/ViT-SO400M-16-SigLIP2-256",
        4543, 83.4, "slow", 256, 64, "multilingual", "multilingual",
        pin=Pin(
            "8b4c2efdfd48e0d72644df99ed5dc20c110fc352",
            "c824f8bb65616a30b57f32e62ca3f4a10287b00f263c989706093cd20daaa4f0",
        ),
    ),
    Model(
        "xlm-roberta-base-ViT-B-32", "xlm-roberta-base-ViT-B-32", "laion5b_s13b_b90k",
        "laion/CLIP-ViT-B-32-xlm-roberta-base-laion5B-s13B-b90k",
        1465, 62.4, "fast", 224, 77, "multilingual", "multilingual",
    ),
    Model(
        "nllb-clip-base-siglip", "nllb-clip-base-siglip", "mrl", "visheratin/nllb-siglip-mrl-base",
        None, None, "medium", 384, 77, "200 languages", "multilingual",
    ),
    Model(
        "MobileCLIP2-S0", "MobileCLIP2-S0", "dfndr2b", "timm/MobileCLIP2-S0-OpenCLIP",
        299, 71.5, "fastest", 256, 77,
        pin=Pin(
            "095906d28bf54d7584dc411e8ffe448f34289e05",
            "ab91a1a0c4330d6b1913e24d5035dfdea15423316aaec649610c6b1c6ddd0e95",
        ),
    ),
    Model(
        "MobileCLIP2-S2", "MobileCLIP2-S2", "dfndr2b", "timm/MobileCLIP2-S2-OpenCLIP",
        397, 77.2, "fast", 256, 77,
        pin=Pin("ac6b37c8fc40b62b623d09ed228a6f0c9bc29fe6"),
    ),
    Model(
        "MobileCLIP-S1", "MobileCLIP-S1", "datacompdr", "apple/MobileCLIP-S1-OpenCLIP",
        340, 72.6, "fast", 256, 77,
        pin=Pin("59d35241939f6942255489b83c9068e48ebf57f8"),
    ),
)  # fmt: skip


def canonical(name: str) -> str:
    """The one spelling of a model's name, told without open_clip's table. Raises UnknownModel with the near misses."""
    if alias := aliases().get(name.lower()):
        return alias.name
    if name.startswith("hf-hub:"):
        repo = name.removeprefix("hf-hub:").strip("/")
        if repo.count("/") != 1:
            raise UsageError(f"{name!r} should read hf-hub:ORGANISATION/REPOSITORY")
        return f"hf-hub:{repo}"
    architecture, _, tag = name.partition("/")
    known = {stem.lower(): stem for stem in architectures()}
    if architecture.lower() not in known:
        _check_path(name)
        names = {*(model.name for model in ZOO), *known.values(), "tiny"}
        raise UnknownModel(unknown("model", name, names, listed_by="cmprompt models list prints those there are"))
    tag = tag.lower().replace("-", "_")  # as open_clip cleans it
    return f"{known[architecture.lower()]}/{tag}" if tag else known[architecture.lower()]


def _check_path(name: str) -> None:
    """Raises UnknownModel, with the name that is meant, where a folder or a file of weights stands for a model's."""
    path = Path(name)
    if name and path.is_dir():
        raise UnknownModel(f"{path} is a folder; name the model in it local-dir:{path}")
    if path.suffix in PICKLES and path.is_file():
        raise UnknownModel(pickle_refusal(path))
    if path.suffix == ".safetensors" and path.is_file():
        raise UnknownModel(
            f"{path} is weights alone; put an open_clip_config.json beside it and name its folder: "
            f"local-dir:{path.parent}"
        )


def pickle_refusal(path: Path) -> str:
    """Why it is not read, and what to do."""
    return (
        f"{path} is a pickle, which can run code; only safetensors are read. "
        f"Convert it once with: cmprompt models convert {path}"
    )


def find(name: str) -> Model:
    """The model that `name` means: an alias above, `hf-hub:ORG/REPO`, `architecture/tag`, an architecture with one tag.

    Raises UsageError for an unknown name. Only the last two import open_clip, for its table of weights.
    """
    name = canonical(name)
    if alias := aliases().get(name.lower()):
        return alias
    if name.startswith("hf-hub:"):
        return Model(name=name, architecture="", tag="", repo=name.removeprefix("hf-hub:"))
    return _from_open_clip(*name.partition("/")[::2])


def aliases() -> dict[str, Model]:
    """The zoo by name in lower case."""
    return {model.name.lower(): model for model in ZOO}


@cache
def architectures() -> tuple[str, ...]:
    """open_clip's architectures, from the names of its configuration files; the package is not imported."""
    spec = find_spec("open_clip")
    folder = Path(spec.origin).parent / "model_configs" if spec and spec.origin else Path()
    return tuple(sorted(path.stem for path in folder.glob("*.json")))


def licence_of(repo: str) -> str:
    """The licence of the weights in a hub repository, told from its name."""
    return next((licence for part, licence in LICENCES if part in repo.lower()), UNSTATED)


def check_licence(model: Model, accepted: bool) -> None:
    """Raises UsageError for a non-commercial model whose terms were not accepted."""
    if not model.commercial and not accepted:
        raise UsageError(
            f"{model.name} is licensed for non-commercial use only ({model.licence}); "
            "read its terms on the hub and add --accept-licence if they suit you"
        )


def _from_open_clip(architecture: str, tag: str) -> Model:
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    tags = list_pretrained_tags_by_model(architecture)
    if not tags:
        raise ModelError(f"open_clip publishes no weights for {architecture}; name a folder with local-dir:DIR")
    name = f"{architecture}/{tag}" if tag else architecture
    if not tag and len(tags) == 1:
        tag = tags[0]
    cfg = get_pretrained_cfg(architecture, tag)
    if not cfg:
        wrong = f"{architecture} has no weights {tag!r}" if tag else f"{architecture} comes with several weights"
        raise UsageError(f"{wrong}; known: {', '.join(f'{architecture}/{known}' for known in sorted(tags))}")
    if not cfg.get("hf_hub"):
        return Model(name=name, architecture=architecture, tag=tag, repo="", note=f"{PICKLED} at {cfg['url']}")
    organisation, repository = cfg["hf_hub"].split("/")[:2]
    return Model(name=name, architecture=architecture, tag=tag, repo=f"{organisation}/{repository}")
