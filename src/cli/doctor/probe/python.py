# Asks for a URL by urllib or by requests, as any program in Python would. Only the probed host's name is resolved here,
# namely to nothing: a program that goes around the proxy says so and reaches nobody.
import socket
import sys
import urllib.parse
import urllib.request

how, url = sys.argv[1:]
probed = urllib.parse.urlsplit(url).hostname
resolve = socket.getaddrinfo


def getaddrinfo(host, *arguments, **named):
    if host in (probed, probed.encode()):
        raise OSError("plainsight-around")
    return resolve(host, *arguments, **named)


socket.getaddrinfo = getaddrinfo
if how == "requests":
    try:
        import requests
    except ImportError:
        raise SystemExit(77)
    print(requests.get(url, timeout=8).text)
else:
    print(urllib.request.urlopen(url, timeout=8).read().decode())
