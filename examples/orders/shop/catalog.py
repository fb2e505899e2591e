"""What does the shop sell, and how much of it is left?"""

import threading
from dataclasses import dataclass


@dataclass(frozen=True)
class Product:
    """One thing on the shelf; the price is in cents."""

    sku: str
    name: str
    price: int
    tax_class: str


class OutOfStock(Exception):
    """There is less of a product than was asked for."""


PRODUCTS = {
    product.sku: product
    for product in (
        Product("tea-green", "Green tea, 100 g", 640, "food"),
        Product("tea-black", "Black tea, 100 g", 590, "food"),
        Product("pot-cast", "Cast-iron pot", 4900, "standard"),
        Product("cup-2", "Two cups", 1890, "standard"),
        Product("book-tea", "The Book of Tea", 1250, "books"),
        Product("sieve", "Fine sieve", 780, "standard"),
    )
}


class Stock:
    """Counts what is left; refilled every night, here as soon as a shelf is empty."""

    def __init__(self, per_product=10_000):
        self._refill = per_product
        self._left = {sku: per_product for sku in PRODUCTS}
        self._lock = threading.Lock()

    def take(self, lines):
        """Takes all of `lines`, pairs of (sku, quantity), or nothing of them."""
        with self._lock:
            for sku, quantity in lines:
                if quantity > self._refill:
                    raise OutOfStock(f"{sku}: {quantity} wanted, {self._refill} is the most there ever is")
            for sku, quantity in lines:
                if self._left[sku] < quantity:
                    self._left[sku] = self._refill
                self._left[sku] -= quantity

    def left(self):
        """A copy of the counts."""
        with self._lock:
            return dict(self._left)
