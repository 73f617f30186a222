// Transactions: comparisons of every kind, branches, and the client's own software transactions, whose
// conflicts the server decides.
'use strict';

const assert = require('node:assert/strict');
const test = require('node:test');
const { STMConflictError } = require('etcd3');
const { fresh } = require('./support');

// The package declares these for TypeScript's compiler alone.
const SERIALIZABLE_SNAPSHOT = 0;
const SERIALIZABLE = 1;
const REPEATABLE_READS = 2;
const READ_COMMITTED = 3;
const ISOLATIONS = [SERIALIZABLE_SNAPSHOT, SERIALIZABLE, REPEATABLE_READS, READ_COMMITTED];

test('the branch that the comparison chooses is carried out, whole and alone', async (t) => {
  const { space } = fresh(t);
  await space.put('k').value('1');
  const run = () => space
    .if('k', 'Value', '==', '1')
    .then(space.put('k').value('2'), space.delete().key('gone'), space.put('new').value('n'))
    .else(space.get('k'), space.getAll().prefix('n'))
    .commit();
  const first = await run();
  assert.equal(first.succeeded, true);
  assert.equal(first.responses.length, 3);
  const second = await run();
  assert.equal(second.succeeded, false);
  assert.equal(second.responses[0].response_range.kvs[0].value.toString(), '2');
  assert.equal(second.responses[1].response_range.kvs[0].value.toString(), 'n');
  assert.equal(second.header.revision, first.header.revision);
});

test('all comparisons have to hold', async (t) => {
  const { space } = fresh(t);
  await space.put('a').value('1');
  const both = (second) => space
    .if('a', 'Value', '==', '1')
    .and('b', 'Version', '==', second)
    .then(space.put('a').value('1'))
    .commit();
  assert.equal((await both(0)).succeeded, true);
  assert.equal((await both(1)).succeeded, false);
});

test('each target is compared in each way', async (t) => {
  const { space } = fresh(t);
  const lease = space.lease(60);
  await lease.put('k').value('m');
  const id = await lease.grant();
  const [pair] = (await space.get('k').exec()).kvs;
  const middles = {
    Value: ['a', 'm', 'z'],
    Version: [0, 1, 2],
    Create: around(pair.create_revision),
    Mod: around(pair.mod_revision),
  };
  for (const [target, [less, same, more]] of Object.entries(middles)) {
    for (const [comparator, value, expected] of [
      ['==', same, true], ['==', more, false], ['!=', same, false], ['!=', less, true],
      ['>', less, true], ['>', same, false], ['<', more, true], ['<', same, false],
    ]) {
      const answer = await space.if('k', target, comparator, value).commit();
      assert.equal(answer.succeeded, expected, `${target} ${comparator} ${value}`);
    }
  }
  assert.equal((await space.if('k', 'Lease', '==', id).commit()).succeeded, true);
  assert.equal((await space.if('k', 'Lease', '!=', id).commit()).succeeded, false);
  await lease.revoke();
});

function around(revision) {
  return [-1n, 0n, 1n].map((distance) => (BigInt(revision) + distance).toString());
}

test('a transaction within a transaction chooses its own branch', async (t) => {
  const { client, prefix } = fresh(t);
  const put = (key) => ({ request_put: { key: Buffer.from(prefix + key), value: Buffer.from('v') } });
  const absent = (key) => ({
    key: Buffer.from(prefix + key), result: 'Equal', target: 'Version', version: 0,
  });
  const answer = await client.kv.txn({
    compare: [absent('a')],
    success: [{ request_txn: { compare: [absent('b')], success: [put('b')], failure: [put('c')] } }],
    failure: [],
  });
  assert.equal(answer.succeeded, true);
  assert.equal(answer.responses[0].response_txn.succeeded, true);
  assert.deepEqual(await client.namespace(prefix).getAll().keys(), ['b']);
});

test('writing a key twice is refused', async (t) => {
  const { space } = fresh(t);
  const twice = space.if('k', 'Version', '==', 0)
    .then(space.put('k').value('1'), space.put('k').value('2'));
  await assert.rejects(twice.commit(), /duplicate key given in txn request/);
});

test('too many operations are refused', async (t) => {
  const { space } = fresh(t);
  const puts = Array.from({ length: 129 }, (_, number) => space.put(`k${number}`).value('v'));
  await assert.rejects(
    space.if('k', 'Version', '==', 0).then(...puts).commit(),
    /too many operations in txn request/,
  );
});

test('a software transaction writes what it said, at each isolation', async (t) => {
  for (const isolation of ISOLATIONS) {
    const { space } = fresh(t);
    await space.put('k').value('1');
    const answer = await space.stm({ isolation }).transact(async (tx) => {
      await tx.put('k').value((await tx.get('k').number()) + 1);
      await tx.delete().key('other');
      assert.equal(await space.get('k'), '1', 'nothing is written before the end');
      assert.equal(await tx.get('k').string(), '2', 'it sees what it wrote');
      return 'done';
    });
    assert.equal(answer, 'done');
    assert.equal(await space.get('k'), '2');
  }
});

test('a software transaction that lost a race is tried again', async (t) => {
  for (const isolation of [SERIALIZABLE_SNAPSHOT, SERIALIZABLE, REPEATABLE_READS]) {
    const { space } = fresh(t);
    await space.put('k').value('1');
    let tries = 0;
    await space.stm({ isolation }).transact(async (tx) => {
      tries += 1;
      const seen = await tx.get('k').number();
      if (tries === 1) {
        await space.put('k').value('10');
      }
      await tx.put('k').value(seen + 1);
    });
    assert.equal(tries, 2);
    assert.equal(await space.get('k'), '11');
  }
});

test('a software transaction that always loses gives up', async (t) => {
  const { space } = fresh(t);
  await space.put('k').value('1');
  const stm = space.stm({ isolation: SERIALIZABLE_SNAPSHOT, retries: 2, prefetch: ['k'] });
  await assert.rejects(stm.transact(async (tx) => {
    const seen = await tx.get('k').number();
    await space.put('k').value(seen + 100);
    await tx.put('k').value(seen + 1);
  }), STMConflictError);
});

test('of ten that count at the same time, none is lost', async (t) => {
  const { space } = fresh(t);
  await space.put('k').value('0');
  await Promise.all(Array.from({ length: 10 }, () =>
    space.stm({ retries: 100 }).transact(async (tx) => {
      await tx.put('k').value((await tx.get('k').number()) + 1);
    })));
  assert.equal(await space.get('k'), '10');
});
