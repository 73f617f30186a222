// Leases: keys that go with them, renewal by hand and by itself, what is told of them, and connections
// that are lost meanwhile.
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const test = require('node:test');
const { EtcdLeaseInvalidError, GRPCFailedPreconditionError, GRPCUnavailableError } = require('etcd3');
const { Proxy, clientOf, eventually, fresh, single } = require('./support');

test('keys go with their lease, whether put alone or in a transaction', async (t) => {
  const { space } = fresh(t);
  const lease = space.lease(100);
  await lease.put('alone').value('1');
  await space.if('alone', 'Version', '==', 1).then(lease.put('within').value('2')).commit();
  await space.put('by id').value('3').lease(await lease.grant());
  const { kvs } = await space.getAll().exec();
  const id = await lease.grant();
  assert.deepEqual(kvs.map((pair) => pair.lease), [id, id, id]);
  await lease.revoke();
  assert.equal(lease.revoked(), true);
  assert.equal(await space.getAll().count(), 0);
});

test('a key keeps its lease if a put says so, and loses it otherwise', async (t) => {
  const { space } = fresh(t);
  const lease = space.lease(100);
  await lease.put('k').value('1');
  await space.put('k').value('2').ignoreLease();
  assert.equal((await space.get('k').exec()).kvs[0].lease, await lease.grant());
  await space.put('k').value('3');
  assert.equal((await space.get('k').exec()).kvs[0].lease, '0');
  await lease.revoke();
  assert.equal(await space.get('k'), '3');
});

test('a lease renews itself, and says so', async (t) => {
  const { space } = fresh(t);
  const lease = space.lease(30);
  await once(lease, 'keepaliveEstablished');
  const [renewed] = await once(lease, 'keepaliveSucceeded');
  assert.deepEqual([renewed.ID, renewed.TTL], [await lease.grant(), '30']);
  const byHand = await lease.keepaliveOnce();
  assert.equal(byHand.TTL, '30');
  await lease.revoke();
});

test('a lease that nobody renews ends, and its keys with it', async (t) => {
  const { client, space } = fresh(t);
  // On a slow machine it may end before its key is there: then there is another one.
  const lease = await eventually(async () => {
    const short = space.lease(1, { autoKeepAlive: false });
    return short.put('k').value('v').exec().then(() => short, (reason) => {
      assert.ok(reason instanceof EtcdLeaseInvalidError, reason);
      return null;
    });
  });
  await eventually(async () => (await space.get('k')) === null);
  const left = await client.leaseClient.leaseTimeToLive({ ID: await lease.grant() });
  assert.equal(left.TTL, '-1');
});

test('a lease that was revoked elsewhere is lost', async (t) => {
  const { client, space } = fresh(t);
  const lease = space.lease(100);
  const id = await lease.grant();
  const lost = once(lease, 'lost');
  await client.leaseClient.leaseRevoke({ ID: id });
  await assert.rejects(lease.keepaliveOnce(), EtcdLeaseInvalidError);
  assert.ok((await lost)[0] instanceof EtcdLeaseInvalidError);
  assert.equal(lease.revoked(), true);
  await assert.rejects(client.leaseClient.leaseRevoke({ ID: id }), EtcdLeaseInvalidError);
  await assert.rejects(space.put('k').value('v').lease(id), EtcdLeaseInvalidError);
});

test('a lease tells its keys and what is left, and is listed', async (t) => {
  const { client, prefix, space } = fresh(t);
  const lease = space.lease(10_000, { autoKeepAlive: false });
  await lease.put('b').value('1');
  await lease.put('a').value('1');
  const ID = await lease.grant();
  const told = await client.leaseClient.leaseTimeToLive({ ID, keys: true });
  assert.equal(told.grantedTTL, '10000');
  assert.ok(Number(told.TTL) > 9_000 && Number(told.TTL) <= 10_000, told.TTL);
  assert.deepEqual(told.keys.map(String).sort(), [`${prefix}a`, `${prefix}b`]);
  const all = await client.leaseClient.leaseLeases();
  assert.ok(all.leases.some((entry) => entry.ID === ID));
  await lease.revoke();
});

test('an id may be chosen, once', async (t) => {
  const { client } = fresh(t);
  const request = { ID: '7587111222333444555', TTL: 60 };
  assert.equal((await client.leaseClient.leaseGrant(request)).ID, request.ID);
  await assert.rejects(client.leaseClient.leaseGrant(request), {
    constructor: GRPCFailedPreconditionError,
    message: /etcdserver: lease already exists/,
  });
  await client.leaseClient.leaseRevoke({ ID: request.ID });
});

test('a lease outlives a connection', async (t) => {
  const proxy = await Proxy.to(t, single);
  // Long enough for a slow machine to find the server again: it is renewed every ten seconds.
  const lease = clientOf(t, { hosts: proxy.address }).lease(30);
  await once(lease, 'keepaliveSucceeded');
  await Promise.all([once(lease, 'keepaliveFailed'), proxy.cut()]);
  await Promise.all([once(lease, 'keepaliveSucceeded'), proxy.mend()]);
  assert.equal(lease.revoked(), false);
  await lease.revoke();
});

test('a lease of a server that is not there is lost', async (t) => {
  const lease = clientOf(t, { hosts: '127.0.0.1:1' }).lease(1);
  const [reason] = await once(lease, 'lost');
  assert.ok(reason instanceof GRPCUnavailableError, reason);
  await assert.rejects(lease.grant(), GRPCUnavailableError);
});
