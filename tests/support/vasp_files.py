"""Minimal files of VASP, written by hand for tests of counting."""

import gzip
from pathlib import Path

HEADER = "       N       E                     dE             d eps       ncg     rms          rms(c)"


def oszicar(steps: list[int]) -> str:
    lines = []
    for ionic, number in enumerate(steps, start=1):
        lines.append(HEADER)
        for n in range(1, number + 1):
            method = "DAV" if n < 4 else "RMM"
            lines.append(f"{method}:{n:4d}    -0.{ionic:03d}52E+02   -0.24E-05   -0.35E-06  4216   0.16E-02")
        lines.append(f"{ionic:4d} F= -.31452334E+02 E0= -.31452334E+02  d E =-.314523E+02  mag=     5.0000")
    return "\n".join(lines) + "\n"


def outcar(
    steps: list[int],
    began: str = "12:00:00",
    finished: bool = True,
    relaxed: bool = True,
    scf: bool = True,
    nsw: int = 99,
    n_kpoints: int = 4,
    version: str = "6.4.3",
    nelm: int = 60,
    ediff: str = "0.1E-04",
    ibrion: int = 2,
) -> str:
    lines = [
        f" vasp.{version} 19Mar24 (build Apr 02 2024 10:00:00) complex",
        "",
        f" executed on             LinuxGNU date 2026.01.02  {began}",
        " running on    8 total cores",
        f"   k-points           NKPTS = {n_kpoints:6d}   k-points in BZ     NKDIM =      4   number of bands",
        f"   NSW    = {nsw:6d}    number of steps for IOM",
        f"   IBRION = {ibrion:6d}    ionic relax: 0-MD 1-quasi-New 2-CG",
        f"   NELM   = {nelm:6d};   NELMIN=  2; NELMDL= -5     # of ELM steps",
        f"   EDIFF  = {ediff}   stopping-criterion for ELM",
    ]
    for ionic, number in enumerate(steps, start=1):
        rule = "-" * 39
        lines += [f"{rule} Iteration {ionic:6d}({n:4d})  {rule}" for n in range(1, number + 1)]
        if scf:
            lines.append("------------------------ aborting loop because EDIFF is reached ------------------------")
    if relaxed:
        lines.append(" reached required accuracy - stopping structural energy minimisation")
    if finished:
        lines.append("                         Elapsed time (sec):       12.500")
    return "\n".join(lines) + "\n"


def write(path: Path, text: str, zipped: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if zipped:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)


def write_run(folder: Path, steps: list[int], suffix: str = "", zipped: bool = False, **about) -> None:
    """Write OSZICAR and OUTCAR of one attempt over those that are there."""
    write(folder / f"OSZICAR{suffix}", oszicar(steps), zipped)
    write(folder / f"OUTCAR{suffix}", outcar(steps, **about), zipped)
