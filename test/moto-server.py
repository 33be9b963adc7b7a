"""moto server as the tests need it: with a few regions of one partition, for each region costs it time and memory, with
CloudWatch's and S3's actions under the names that policies have for them, and with the answer that no snapshot is
locked or on its way to the archive."""

import sys

from moto.core.responses import ActionResult
from moto.ec2.models.availability_zones_and_regions import RegionsAndZonesBackend
from moto.ec2.responses.elastic_block_store import ElasticBlockStore
from moto.iam import access_control
from moto.s3.responses import ACTION_MAP
from moto.server import main

RegionsAndZonesBackend.regions = [
    region
    for region in RegionsAndZonesBackend.regions
    if region.name in ("eu-central-1", "eu-west-1", "us-east-1", "us-west-2")
]

check = access_control.IAMRequestBase.check_action_permitted


def check_action_permitted(self, resource):
    # moto takes the service from the signature, where CloudWatch is called monitoring.
    self._action = self._action.replace("monitoring:", "cloudwatch:")
    check(self, resource)


access_control.IAMRequestBase.check_action_permitted = check_action_permitted

# moto takes these for ListBucket, CreateBucket, GetObject and PutObject.
bucket, key = ACTION_MAP["BUCKET"], ACTION_MAP["KEY"]
bucket["HEAD"] = {"DEFAULT": "ListBucket"}
for method, verb in {"GET": "Get", "PUT": "Put", "DELETE": "Put"}.items():
    bucket[method]["publicAccessBlock"] = verb + "BucketPublicAccessBlock"
    bucket[method]["encryption"] = verb + "EncryptionConfiguration"
for method, verb in {"GET": "Get", "PUT": "Put"}.items():
    bucket[method]["object-lock"] = verb + "BucketObjectLockConfiguration"
    bucket[method]["requestPayment"] = verb + "BucketRequestPayment"
    key[method]["retention"] = verb + "ObjectRetention"
    key[method]["legal-hold"] = verb + "ObjectLegalHold"

ElasticBlockStore.describe_locked_snapshots = lambda self: ActionResult({"Snapshots": []})
# moto knows no filter by the state of the archiving.
ElasticBlockStore.describe_snapshot_tier_status = lambda self: ActionResult({"SnapshotTierStatuses": []})
main(sys.argv[1:])
