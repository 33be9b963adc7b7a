"""moto server as the tests need it: with the regions of one partition only, as an account sees them."""

import sys

from moto.ec2.models.availability_zones_and_regions import RegionsAndZonesBackend
from moto.server import main

RegionsAndZonesBackend.regions = [
    region for region in RegionsAndZonesBackend.regions if not region.name.startswith(("cn-", "us-gov-"))
]
main(sys.argv[1:])
