"""convexsnn: spiking neural networks by convex optimization, with certificates.

    problem = convexsnn.load_problem("xor")
    result = convexsnn.train(problem)
    print(result.claim)

or station by station: `lower`, `solve`, `reconstruct`, `simulate`, `verify`. The stub beside this file
is the one list of public names. They are loaded when first used, so that importing the package imports no
solver.
"""

import lazy_loader

from convexsnn.compile_cache import keep_or_do_without

keep_or_do_without()  # before numba is imported

from convexsnn.simulate import simulate as simulate  # noqa: E402  # before the module can take its place

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
