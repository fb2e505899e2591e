#!/usr/bin/env python3
"""Makes a container in an Azurite: azure_container.py URL ACCOUNT KEY CONTAINER. Signed as Azure's Shared Key says."""
import base64
import hashlib
import hmac
import sys
import urllib.error
import urllib.request
from email.utils import formatdate

url, account, key, container = sys.argv[1:]
version, date = "2021-08-06", formatdate(usegmt=True)
headers = f"x-ms-date:{date}\nx-ms-version:{version}\n"
# The path holds the account already, and the resource begins with it once more.
text = "PUT" + "\n" * 12 + headers + f"/{account}/{account}/{container}\nrestype:container"
signature = base64.b64encode(hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()).decode()
request = urllib.request.Request(f"{url}/{account}/{container}?restype=container", method="PUT", data=b"")
for name, value in {"x-ms-date": date, "x-ms-version": version, "Content-Type": "", "Content-Length": "0",
                    "Authorization": f"SharedKey {account}:{signature}"}.items():
    request.add_header(name, value)
try:
    urllib.request.urlopen(request, timeout=10)
except urllib.error.HTTPError as error:
    sys.exit(f"{error.code}: {error.read().decode()[:500]}")
