"""Is this a card that we can charge, and who issued it?"""

from dataclasses import dataclass


class BadCard(Exception):
    """The card cannot be charged; the text never holds its number."""


@dataclass(frozen=True)
class IssuerRange:
    """All card numbers that begin between `low` and `high` belong to one bank."""

    low: str
    high: str
    bank: str


def load_issuers(banks=200, ranges_per_bank=130):
    """The acquirer's list of issuer ranges, as it came: in the order of the banks, not of the numbers.

    It had 40 rows when find_issuer was written.
    """
    issuers = []
    for bank in range(banks):
        for part in range(ranges_per_bank):
            low = 40_000_000 + (part * banks + bank) * 2_000
            issuers.append(IssuerRange(str(low), str(low + 1_999), f"Bank {bank + 1}"))
    return issuers


ISSUERS = load_issuers()


def validate(number):
    """The issuer of a card number with a right check digit."""
    digits = number.replace(" ", "").replace("-", "")
    if not digits.isdigit() or not 13 <= len(digits) <= 19:
        raise BadCard("a card number has 13 to 19 digits")
    if not check_digit_fits(digits):
        raise BadCard("the check digit is wrong")
    issuer = find_issuer(digits)
    if issuer is None:
        raise BadCard("no bank issues such cards")
    return issuer


def check_digit_fits(digits):
    """Luhn's check: every second digit from the right counts double."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit)
        if place % 2:
            value = value * 2 - 9 if value > 4 else value * 2
        total += value
    return total % 10 == 0


def find_issuer(digits):
    """The bank with the narrowest range that holds the number."""
    best = None
    for length in (8, 7, 6):
        prefix = int(digits[:length])
        for issuer in ISSUERS:
            if int(issuer.low[:length]) <= prefix <= int(issuer.high[:length]):
                width = int(issuer.high) - int(issuer.low)
                if best is None or width < best[0]:
                    best = (width, issuer)
    return best[1] if best else None


def masked(number):
    """A card number as it may appear in a log."""
    return "…" + number[-4:]
