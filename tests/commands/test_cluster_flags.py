"""The flags that say where the levels of a sweep, or the techniques of a comparison, are computed."""

import json
import socket

import pytest

from sparsity.cluster.settings import ClusterSettings
from sparsity.commands import compare, sweep
from sparsity.commands.options import read_cluster
from sparsity.commands.parsers import sweep_parser
from sparsity.commands.resuming import complete


@pytest.mark.parametrize(
    ("flags", "settings"),
    [
        ([], None),
        (["--ray"], ClusterSettings()),
        (["--ray", "auto", "--ray-gpus", "0.5"], ClusterSettings("auto", gpus=0.5)),
        (["--ray=host:6379", "--ray-cpus", "8"], ClusterSettings("host:6379", cpus=8)),
    ],
)
def test_flags_become_settings(flags, settings):
    pytest.importorskip("ray")
    assert read_cluster(sweep_parser("sweep").parse_args(["0.5", *flags])) == settings


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--ray-cpus", "2"], "--ray-cpus goes with --ray; give that, or leave it out"),
        (["--ray-gpus", "1"], "--ray-gpus goes with --ray"),
        (["--ray-retries", "1"], "--ray-retries goes with --ray"),
        (["--ray", "--ray-cpus", "0"], "--ray-cpus is 0; a number of cores from 1 on is expected"),
        (["--ray", "--ray-gpus", "2.5"], "--ray-gpus is 2.5; 0, a share such as 0.5"),
    ],
)
def test_wrong_values_are_refused_in_one_line(run_script, tmp_path, flags, words):
    code, _out, err = run_script(sweep, "0.5", "--demo", "--project", tmp_path, *flags)
    assert (code, len(err.splitlines())) == (2, 1), err
    assert words in err


def test_without_ray(run_script, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    code, _, err = run_script(sweep, "0.5", "--demo", "--project", tmp_path, "--ray")
    assert code == 2
    assert "--ray needs the package ray" in err
    assert err.rstrip().endswith("pip install ray")
    assert not list(tmp_path.glob("sweep*"))


@pytest.mark.parametrize(
    ("first", "given", "expected"),
    [
        ("0.5 --demo", "--resume {0} --ray auto --ray-gpus 1", "0.5 --demo --ray auto --ray-gpus 1"),
        ("0.5 --ray auto --demo", "--resume {0}", "0.5 --demo --ray auto"),
        ("0.5 --ray auto --demo", "--ray --resume {0}", "0.5 --demo --ray"),
        ("--ray=auto 0.5 --demo", "--resume {0} --ray=h:1", "0.5 --demo --ray=h:1"),
    ],
)
def test_a_sweep_goes_on_on_other_machines(tmp_path, first, given, expected):
    about = {"command": f"python sweep.py {first}"}
    (tmp_path / "settings.json").write_text(json.dumps({"settings": {}, "about": about}))
    found = complete("sweep", given.format(tmp_path).split())
    assert found == [*expected.split(), "--resume", str(tmp_path)]


@pytest.mark.parametrize(
    ("command", "more"),
    [
        (sweep, ["0.5", "--batch-sizes", "none"]),
        (compare, ["--techniques", "dense", "--engines", "torch"]),
    ],
)
def test_without_a_cluster_nothing_is_written(run_script, stand_in, shapes, tmp_path, command, more):
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = [*more, "--weights", stand_in, "--data", shapes, "--imgsz", 64, "--workers", 0]
    code, _, err = run_script(command, *flags, "--project", tmp_path / "runs", "--ray", address)
    assert code == 2
    assert f"--ray {address}: no cluster answers there" in err.splitlines()[-1]
    assert not (tmp_path / "runs").exists()
