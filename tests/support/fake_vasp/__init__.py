"""A test double of VASP: reads VASP's inputs, writes VASP's outputs, knows no quantum mechanics.

Atoms and cell move in a potential of charged spheres, so that relaxations converge and better starts take fewer ionic
steps. Everything electronic (counts of electronic steps, bands, density of states, moments) comes from formulas. All
outputs call themselves synthetic: in the first line of OUTCAR and in the version that vasprun.xml gives.

The fixture ``fake_vasp`` makes it ``vasp_std`` and ``vasp_gam``. Makers need nothing else; `runs.relax` runs one
without the ten seconds that custodian waits for each VASP. ``FAKE_VASP_FAULTS`` and ``FAKE_VASP_SLEEP`` (seconds for
each ionic step), or ``fake_vasp.json`` in the run directory with the keys ``faults`` and ``sleep`` (a maker writes it
with ``write_additional_data={"fake_vasp:json": {...}}``), ask for faults, in the first attempt in a directory or, with
``:always`` behind the name, in all:

- ``edddav``: stops in the third electronic step with an error that VaspErrorHandler knows;
- ``brions``: a complaint of the same kind at the end of an ordinary run;
- ``nsw``: stops unconverged after three ionic steps, as for NSW = 3;
- ``scf``, ``scf_all``: NELM electronic steps in the first, in all ionic steps;
- ``crash``: killed in the third ionic step, vasprun.xml ends in the middle of a line.
"""
