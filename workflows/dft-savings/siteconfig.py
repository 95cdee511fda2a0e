"""How GPAW is built here: serial, with the system's libxc, BLAS and FFTW."""

mpi = False
mpicompiler = None
compiler = "gcc"
libraries = ["xc", "blas", "fftw3"]
fftw = True
scalapack = False
