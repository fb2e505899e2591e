"""What does a basket cost? Everything in cents, tax included in the prices."""

from dataclasses import dataclass

from catalog import PRODUCTS

TAX_PERCENT = {"standard": 19, "food": 7, "books": 7}
COUPONS = {"TEATIME": 10, "WELCOME": 5}
FREE_SHIPPING_FROM = 5000
SHIPPING = 490


@dataclass(frozen=True)
class Quote:
    """The sums of an order."""

    goods: int
    discount: int
    shipping: int
    tax: int

    @property
    def total(self):
        """What the card is charged."""
        return self.goods - self.discount + self.shipping


def price(basket):
    """Adds up a basket."""
    goods = sum(PRODUCTS[sku].price * quantity for sku, quantity in basket.lines)
    discount = goods * COUPONS.get(basket.coupon, 0) // 100
    shipping = 0 if goods - discount >= FREE_SHIPPING_FROM else SHIPPING
    return Quote(goods, discount, shipping, included_tax(basket.lines, discount, goods))


def included_tax(lines, discount, goods):
    """The tax inside the prices, after the discount is spread over the lines."""
    tax = 0
    for sku, quantity in lines:
        product = PRODUCTS[sku]
        gross = product.price * quantity
        gross -= discount * gross // goods
        percent = TAX_PERCENT[product.tax_class]
        tax += gross * percent // (100 + percent)
    return tax
