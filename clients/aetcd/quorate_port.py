"""A plugin for pytest: a client that is told no port asks the server that is under test.

One of aetcd's tests relies on the default port, which may be somebody else's on this machine. Nothing of
aetcd's is changed but that default.
"""

import os
import urllib.parse

import aetcd.client

ETCD_PORT = 2379


def pytest_configure(config):
    address = urllib.parse.urlparse(os.environ['TEST_ETCD_HTTP_URL'])
    make = aetcd.client.Client.__init__
    defaults = make.__defaults__
    assert defaults.count(ETCD_PORT) == 1, f'expected {ETCD_PORT} once among {defaults}'
    make.__defaults__ = tuple(address.port if it == ETCD_PORT else it for it in defaults)
