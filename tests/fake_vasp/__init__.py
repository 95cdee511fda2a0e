"""A test double of VASP: reads VASP's inputs, writes VASP's outputs, knows no quantum mechanics.

Atoms and cell move in a potential of charged spheres, so that relaxations converge and better starts take fewer ionic
steps. Everything electronic (counts of electronic steps, bands, density of states, moments) comes from formulas. All
outputs call themselves synthetic: in the first line of OUTCAR and in the version that vasprun.xml gives.
"""
