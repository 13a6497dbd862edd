"""What the package hands on, and where it is defined."""

from .dictionary import Definition as Definition
from .dictionary import SpikeDictionary as SpikeDictionary
from .dictionary import collect as collect
from .dictionary import load_dictionary as load_dictionary
from .reservoir import branching_ratio as branching_ratio
from .sources import Draw as Draw
from .sources import Source as Source
from .sources import register_source as register_source
from .witnesses import draw_subnetworks as draw_subnetworks
from .witnesses import subnetworks_from_file as subnetworks_from_file
