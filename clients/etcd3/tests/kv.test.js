// Keys: what is put, ranges in every form, deletions, the past and its compaction, limits.
'use strict';

const assert = require('node:assert/strict');
const test = require('node:test');
const { GRPCInvalidArgumentError, GRPCOutOfRangeError } = require('etcd3');
const { fresh } = require('./support');

test('a value comes back as text, bytes, number and JSON', async (t) => {
  const { space } = fresh(t);
  await space.put('text').value('grüße');
  await space.put('number').value(42);
  await space.put('json').value('{"a":[1,2]}');
  const bytes = Buffer.from([0, 255, 1, 254, 0]);
  await space.put(Buffer.from([0, 255])).value(bytes);
  assert.equal(await space.get('text'), 'grüße');
  assert.equal(await space.get('text').string(), 'grüße');
  assert.equal(await space.get('number').number(), 42);
  assert.deepEqual(await space.get('json').json(), { a: [1, 2] });
  assert.deepEqual(await space.get(Buffer.from([0, 255])).buffer(), bytes);
  assert.equal(await space.get('text').exists(), true);
});

test('a key that nobody has put is null, and does not exist', async (t) => {
  const { space } = fresh(t);
  assert.equal(await space.get('nothing'), null);
  assert.equal(await space.get('nothing').buffer(), null);
  assert.equal(await space.get('nothing').json(), null);
  assert.equal(await space.get('nothing').exists(), false);
});

test('a put tells what was there before, and counts versions', async (t) => {
  const { space } = fresh(t);
  const first = await space.put('k').value('one');
  const previous = await space.put('k').value('two').getPrevious();
  assert.equal(previous.value.toString(), 'one');
  assert.equal(previous.mod_revision, first.header.revision);
  const [pair] = (await space.get('k').exec()).kvs;
  assert.equal(pair.version, '2');
  assert.equal(pair.create_revision, first.header.revision);
  assert.equal(BigInt(pair.mod_revision), BigInt(first.header.revision) + 1n);
});

test('a touch is a new revision of the same value', async (t) => {
  const { space } = fresh(t);
  await space.put('k').value('kept');
  const touched = await space.put('k').touch();
  const [pair] = (await space.get('k').exec()).kvs;
  assert.equal(pair.value.toString(), 'kept');
  assert.equal(pair.mod_revision, touched.header.revision);
});

test('a touch of what is not there is refused', async (t) => {
  const { space } = fresh(t);
  await assert.rejects(space.put('nothing').touch(), {
    constructor: GRPCInvalidArgumentError,
    message: /etcdserver: key not found/,
  });
});

test('an empty key is refused', async (t) => {
  const { client } = fresh(t);
  const empty = client.kv.put({ key: Buffer.alloc(0), value: Buffer.from('x') });
  await assert.rejects(empty, /etcdserver: key is not provided/);
});

async function five(space) {
  for (const [key, value] of [['b', '3'], ['a', '5'], ['c', '1'], ['aa', '4'], ['ab', '2']]) {
    await space.put(key).value(value);
  }
  await space.put('aa').value('4');
}

test('all keys, a prefix and a range are what they say', async (t) => {
  const { space } = fresh(t);
  await five(space);
  const all = { a: '5', aa: '4', ab: '2', b: '3', c: '1' };
  assert.deepEqual(await space.getAll(), all);
  assert.deepEqual(await space.getAll().all().strings(), all);
  assert.deepEqual(await space.getAll().prefix('a').strings(), { a: '5', aa: '4', ab: '2' });
  assert.deepEqual(await space.getAll().inRange({ start: 'ab', end: 'c' }).strings(), {
    ab: '2',
    b: '3',
  });
  assert.deepEqual(await space.getAll().inRange({ prefix: 'aa' }).strings(), { aa: '4' });
  assert.deepEqual(await space.getAll().prefix('a').numbers(), { a: 5, aa: 4, ab: 2 });
  assert.deepEqual(await space.getAll().prefix('a').json(), { a: 5, aa: 4, ab: 2 });
  assert.deepEqual(await space.getAll().prefix('b').buffers(), { b: Buffer.from('3') });
});

test('keys and counts come without values', async (t) => {
  const { space } = fresh(t);
  await five(space);
  assert.deepEqual(await space.getAll().keys(), ['a', 'aa', 'ab', 'b', 'c']);
  assert.deepEqual(await space.getAll().prefix('b').keyBuffers(), [Buffer.from('b')]);
  assert.equal(await space.getAll().count(), 5);
  assert.equal(await space.getAll().prefix('a').limit(1).count(), 3);
});

test('a limit cuts, and says that there is more', async (t) => {
  const { space } = fresh(t);
  await five(space);
  const cut = await space.getAll().limit(2).exec();
  assert.deepEqual([cut.kvs.length, cut.more, cut.count], [2, true, '5']);
  const whole = await space.getAll().limit(5).exec();
  assert.deepEqual([whole.kvs.length, whole.more, whole.count], [5, false, '5']);
});

test('keys are sorted by each of what they can be sorted by, both ways', async (t) => {
  const { space } = fresh(t);
  await five(space);
  const sorted = async (target, order) => {
    const found = await space.getAll().sort(target, order).keys();
    return found.join(' ');
  };
  assert.equal(await sorted('Key', 'Ascend'), 'a aa ab b c');
  assert.equal(await sorted('Key', 'Descend'), 'c b ab aa a');
  assert.equal(await sorted('Value', 'Ascend'), 'c ab b aa a');
  assert.equal(await sorted('Create', 'Ascend'), 'b a c aa ab');
  assert.equal(await sorted('Mod', 'Descend'), 'aa ab c a b');
  assert.match(await sorted('Version', 'Descend'), /^aa /);
});

test('revisions bound what a range tells of', async (t) => {
  const { space } = fresh(t);
  const at = {};
  for (const key of ['x', 'y', 'z']) {
    at[key] = (await space.put(key).value('1')).header.revision;
  }
  const again = (await space.put('x').value('2')).header.revision;
  assert.deepEqual(await space.getAll().minModRevision(at.z).keys(), ['x', 'z']);
  assert.deepEqual(await space.getAll().maxModRevision(at.z).keys(), ['y', 'z']);
  assert.deepEqual(await space.getAll().minCreateRevision(at.y).keys(), ['y', 'z']);
  assert.deepEqual(await space.getAll().maxCreateRevision(at.y).keys(), ['x', 'y']);
  assert.deepEqual(await space.getAll().revision(at.y).strings(), { x: '1', y: '1' });
  assert.equal(await space.get('x').revision(again), '2');
});

test('a serializable read tells what a single server knows', async (t) => {
  const { space } = fresh(t);
  await space.put('k').value('v');
  assert.equal(await space.get('k').serializable(true), 'v');
  assert.deepEqual(await space.getAll().serializable(true).strings(), { k: 'v' });
});

test('the past can be read until it is compacted, and the future cannot', async (t) => {
  const { client, space } = fresh(t);
  const old = (await space.put('k').value('old')).header.revision;
  const now = (await space.put('k').value('new')).header.revision;
  assert.equal(await space.get('k').revision(old), 'old');
  await client.kv.compact({ revision: now, physical: true });
  await assert.rejects(space.get('k').revision(old), {
    constructor: GRPCOutOfRangeError,
    message: /required revision has been compacted/,
  });
  await assert.rejects(client.kv.compact({ revision: now }), GRPCOutOfRangeError);
  await assert.rejects(space.get('k').revision('999999999'), /is a future revision/);
  assert.equal(await space.get('k').revision(now), 'new');
});

test('deletions tell how many there were, and which', async (t) => {
  const { space } = fresh(t);
  await five(space);
  assert.equal((await space.delete().key('c')).deleted, '1');
  assert.equal((await space.delete().key('c')).deleted, '0');
  const gone = await space.delete().prefix('a').getPrevious();
  assert.deepEqual(gone.map((pair) => pair.value.toString()), ['5', '4', '2']);
  assert.deepEqual(await space.getAll().keys(), ['b']);
  await five(space);
  assert.equal((await space.delete().inRange({ start: 'aa', end: 'c' })).deleted, '3');
  assert.equal((await space.delete().range(space.range({ prefix: 'c' }))).deleted, '1');
  assert.equal((await space.delete().all()).deleted, '1');
  assert.equal(await space.getAll().count(), 0);
});

test('a namespace sees its own keys alone, and those within are below it', async (t) => {
  const { client, prefix, space } = fresh(t);
  const inner = space.namespace('inner/');
  await space.put('k').value('outer');
  await inner.put('k').value('inner');
  assert.equal(await client.get(`${prefix}inner/k`), 'inner');
  assert.deepEqual(await space.getAll().keys(), ['inner/k', 'k']);
  assert.equal((await inner.delete().all()).deleted, '1');
  assert.deepEqual(await space.getAll().strings(), { k: 'outer' });
});

test('a value of a megabyte is kept whole, and a larger request than may be is refused', async (t) => {
  const { space } = fresh(t);
  const large = Buffer.alloc(1024 * 1024, 'quorate');
  await space.put('large').value(large);
  assert.ok((await space.get('large').buffer()).equals(large));
  await assert.rejects(space.put('larger').value(Buffer.alloc(1_700_000)), {
    constructor: GRPCInvalidArgumentError,
    message: /etcdserver: request is too large/,
  });
});

test('two hundred puts at once all happen, each with a revision of its own', async (t) => {
  const { space } = fresh(t);
  const numbers = Array.from({ length: 200 }, (_, number) => number);
  const answers = await Promise.all(numbers.map((number) => space.put(`k${number}`).value(number)));
  assert.equal(new Set(answers.map((answer) => answer.header.revision)).size, 200);
  assert.equal(await space.getAll().count(), 200);
});
