"""Run directories behind URLs: place.py, the run and its mirror; bucket.py, files of a store; lease.py, who works on
what; parts.py, checkpoints of unfinished stages; listing.py, what a folder holds. Imports neither torch nor fsspec.
"""

from posttrain.remote.bucket import is_url
from posttrain.remote.place import Place, found, lacks, local, place

__all__ = ["Place", "found", "is_url", "lacks", "local", "place"]
