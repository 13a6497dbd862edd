"""Claims about solved problems, and the checks that prove them again."""

from convexsnn.certify.checker import Checked, check
from convexsnn.certify.claim import Claim, Evidence, load_claim, save_claim
from convexsnn.certify.verification import Verification, verify

__all__ = ["Checked", "Claim", "Evidence", "Verification", "check", "load_claim", "save_claim", "verify"]
