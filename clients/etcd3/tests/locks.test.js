// Locks and elections as this client builds them: out of leases, transactions and watches.
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const test = require('node:test');
const { EtcdLockFailedError, NotCampaigningError } = require('etcd3');
const { clientOf, eventually, fresh } = require('./support');

test('a lock is one holder\'s at a time', async (t) => {
  const { space } = fresh(t);
  const held = await space.lock('l').ttl(30).acquire();
  const id = await held.leaseId();
  assert.equal((await space.get('l').exec()).kvs[0].lease, id);
  await assert.rejects(space.lock('l').acquire(), EtcdLockFailedError);
  await held.release();
  assert.equal(await space.get('l').exists(), false);
  const answer = await space.lock('l').do(async () => {
    await assert.rejects(space.lock('l').acquire(), EtcdLockFailedError);
    return 'done';
  });
  assert.equal(answer, 'done');
  await (await space.lock('l').acquire()).release();
});

test('a lock whose holder is gone is free when its lease has ended', async (t) => {
  const { client, space } = fresh(t);
  const held = await space.lock('l').ttl(30).acquire();
  await client.leaseClient.leaseRevoke({ ID: await held.leaseId() });
  await (await space.lock('l').acquire()).release();
});

/** A campaign of a client of its own, so that each has its own connection. */
function campaign(t, name, value) {
  return clientOf(t).election(name, 30).campaign(value);
}

test('whoever was first is elected, then who came next', async (t) => {
  const election = clientOf(t).election(`in-turn-${process.pid}`, 30);
  assert.equal(await election.leader(), undefined);
  const first = await campaign(t, election.name, 'one').wait();
  const second = campaign(t, election.name, 'two');
  const isElected = second.wait();
  await second.getCampaignKey();
  assert.equal(await election.leader(), 'one');
  assert.deepEqual(await election.leader('buffer'), Buffer.from('one'));
  await first.resign();
  await isElected;
  assert.equal(await election.leader(), 'two');
  await second.resign();
  assert.equal(await election.leader(), undefined);
});

test('who leads may say something else, and who has resigned may not', async (t) => {
  const election = clientOf(t).election(`proclaims-${process.pid}`, 30);
  const leads = await campaign(t, election.name, 'one').wait();
  await leads.proclaim('other');
  assert.equal(await election.leader(), 'other');
  await leads.resign();
  await assert.rejects(leads.proclaim('late'), NotCampaigningError);
});

test('whose key was deleted leads no more', async (t) => {
  const client = clientOf(t);
  const leads = await client.election(`deleted-${process.pid}`, 30).campaign('one').wait();
  await client.delete().key(await leads.getCampaignKey());
  await assert.rejects(leads.proclaim('other'), NotCampaigningError);
});

test('an observer is told of each leader', async (t) => {
  const election = clientOf(t).election(`observed-${process.pid}`, 30);
  const first = await campaign(t, election.name, 'one').wait();
  const observer = await election.observe();
  assert.equal(observer.leader(), 'one');
  const told = [];
  observer.on('change', (value) => told.push(value));
  await first.proclaim('one again');
  await eventually(() => told.includes('one again'));
  const second = campaign(t, election.name, 'two');
  await once(second, '_isWaiting');
  await first.resign();
  await eventually(() => told.includes('two'));
  assert.equal(observer.leader(), 'two');
  await observer.cancel();
  await second.resign();
});
