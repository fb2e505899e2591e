"""What does a customer want? Reads an order as it comes from the network."""

from dataclasses import dataclass

from catalog import PRODUCTS

MAX_LINES = 50
MAX_QUANTITY = 99


class BadOrder(Exception):
    """The order cannot be understood; the text says where."""


@dataclass(frozen=True)
class Basket:
    """What is bought, as pairs of (sku, quantity), and how it is paid."""

    lines: tuple
    card: str
    coupon: str


def read_basket(body):
    """Checks every field of a decoded JSON body."""
    if not isinstance(body, dict):
        raise BadOrder("the order is not an object")
    items = body.get("items")
    if not isinstance(items, list) or not 1 <= len(items) <= MAX_LINES:
        raise BadOrder(f"items must be a list of 1 to {MAX_LINES} lines")
    lines = {}
    for number, item in enumerate(items, start=1):
        sku, quantity = read_line(number, item)
        lines[sku] = lines.get(sku, 0) + quantity
    card, coupon = body.get("card"), body.get("coupon", "")
    if not isinstance(card, str) or not isinstance(coupon, str):
        raise BadOrder("card and coupon must be text")
    return Basket(tuple(sorted(lines.items())), card, coupon)


def read_line(number, item):
    """One line of the order as (sku, quantity)."""
    if not isinstance(item, dict) or item.get("sku") not in PRODUCTS:
        raise BadOrder(f"line {number}: the shop has no such product")
    quantity = item.get("quantity", 1)
    if not isinstance(quantity, int) or not 1 <= quantity <= MAX_QUANTITY:
        raise BadOrder(f"line {number}: quantity must be 1 to {MAX_QUANTITY}")
    return item["sku"], quantity
