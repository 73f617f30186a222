// Watches: what they tell, from when on, many on one stream, and over lost connections.
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const test = require('node:test');
const { Proxy, clientOf, eventually, fresh, single } = require('./support');

/** What a watcher tells, in order, as lines. */
function lines(watcher, prefix = '') {
  const told = [];
  const line = (verb) => (pair, previous) => {
    const was = previous && previous.key.length > 0 ? ` (was ${previous.value})` : '';
    told.push(`${verb} ${String(pair.key).slice(prefix.length)}=${pair.value}${was}`);
  };
  watcher.on('put', line('put'));
  watcher.on('delete', line('delete'));
  return told;
}

test('a watched key is told, and no other', async (t) => {
  const { space } = fresh(t);
  const watcher = await space.watch().key('k').create();
  const told = lines(watcher);
  await space.put('other').value('0');
  await space.put('k').value('1');
  await space.delete().key('k');
  await eventually(() => told.length === 2);
  assert.deepEqual(told.map((line) => line.split(' ')[0]), ['put', 'delete']);
  assert.match(told[0], /k=1$/);
  await watcher.cancel();
});

test('a prefix and a range are told in the order of what happened', async (t) => {
  const { client, prefix } = fresh(t);
  const whole = await client.watch().prefix(`${prefix}a`).create();
  const part = await client.watch().inRange({ start: `${prefix}ab`, end: `${prefix}b` }).create();
  const [all, some] = [lines(whole, prefix), lines(part, prefix)];
  for (const key of ['b', 'ac', 'a', 'ab']) {
    await client.put(prefix + key).value('1');
  }
  await client.delete().prefix(`${prefix}ac`);
  await eventually(() => all.length === 4 && some.length === 3);
  assert.deepEqual(all, ['put ac=1', 'put a=1', 'put ab=1', 'delete ac=']);
  assert.deepEqual(some, ['put ac=1', 'put ab=1', 'delete ac=']);
  await whole.cancel();
  await part.cancel();
});

test('filters leave out what nobody wants, and the previous value comes if asked for', async (t) => {
  const { client, prefix } = fresh(t);
  const key = `${prefix}k`;
  const puts = await client.watch().key(key).only('put').withPreviousKV().create();
  const deletions = await client.watch().key(key).only('delete').withPreviousKV().create();
  const [putLines, deletionLines] = [lines(puts, prefix), lines(deletions, prefix)];
  await client.put(key).value('1');
  await client.put(key).value('2');
  await client.delete().key(key);
  await client.put(key).value('3');
  await client.delete().key(key);
  await eventually(() => putLines.length === 3 && deletionLines.length === 2);
  assert.deepEqual(putLines, ['put k=1', 'put k=2 (was 1)', 'put k=3']);
  assert.deepEqual(deletionLines, ['delete k= (was 2)', 'delete k= (was 3)']);
  await puts.cancel();
  await deletions.cancel();
});

test('a watch from an earlier revision tells what has been', async (t) => {
  const { client, prefix } = fresh(t);
  const first = await client.put(`${prefix}k`).value('1');
  await client.put(`${prefix}k`).value('2');
  const watcher = client.watch().key(`${prefix}k`).startRevision(first.header.revision).watcher();
  const told = lines(watcher, prefix);
  await eventually(() => told.length === 2);
  await client.put(`${prefix}k`).value('3');
  await eventually(() => told.length === 3);
  assert.deepEqual(told, ['put k=1', 'put k=2', 'put k=3']);
  await watcher.cancel();
});

test('a watch from before the compaction is told so', async (t) => {
  const { client, prefix } = fresh(t);
  const first = await client.put(`${prefix}k`).value('1');
  const second = await client.put(`${prefix}k`).value('2');
  await client.kv.compact({ revision: second.header.revision });
  const early = { key: Buffer.from(`${prefix}k`), start_revision: first.header.revision };
  const stream = await client.watchClient.watch();
  const answers = [];
  stream.on('data', (answer) => answers.push(answer));
  stream.on('error', () => {});
  stream.write({ create_request: early });
  await eventually(() => answers.length === 2);
  assert.deepEqual(
    [answers[1].canceled, answers[1].compact_revision],
    [true, second.header.revision],
  );
  stream.cancel();
  const watcher = client.watch().key(early.key).startRevision(early.start_revision).watcher();
  const [reason] = await once(watcher, 'error');
  assert.match(reason.message, /Watcher canceled/);
});

test('a hundred watches share a stream, and each is told its own', async (t) => {
  const { client, prefix } = fresh(t);
  const numbers = Array.from({ length: 100 }, (_, number) => number);
  const watchers = await Promise.all(
    numbers.map((number) => client.watch().key(`${prefix}${number}`).create()),
  );
  const told = watchers.map((watcher) => lines(watcher, prefix));
  assert.equal(new Set(watchers.map((watcher) => watcher.id)).size, 100);
  await Promise.all(numbers.map((number) => client.put(`${prefix}${number}`).value(number)));
  await eventually(() => told.every((own) => own.length === 1));
  assert.deepEqual(told.flat(), numbers.map((number) => `put ${number}=${number}`));
  await Promise.all(watchers.map((watcher) => watcher.cancel()));
});

test('a watch that was cancelled is told nothing more, and others are', async (t) => {
  const { client, prefix } = fresh(t);
  const gone = await client.watch().key(`${prefix}k`).create();
  const stays = await client.watch().key(`${prefix}k`).create();
  const [goneLines, staysLines] = [lines(gone), lines(stays)];
  await gone.cancel();
  await client.put(`${prefix}k`).value('1');
  await eventually(() => staysLines.length === 1);
  assert.deepEqual(goneLines, []);
  await stays.cancel();
  const again = await client.watch().key(`${prefix}k`).create();
  const againLines = lines(again);
  await client.put(`${prefix}k`).value('2');
  await eventually(() => againLines.length === 1);
  await again.cancel();
});

test('what happens while a connection is lost is told afterwards, once', async (t) => {
  const { client, prefix } = fresh(t);
  const proxy = await Proxy.to(t, single);
  const watcher = await clientOf(t, { hosts: proxy.address }).watch().key(`${prefix}k`).create();
  const told = lines(watcher, prefix);
  await client.put(`${prefix}k`).value('1');
  await eventually(() => told.length === 1);
  await Promise.all([once(watcher, 'disconnected'), proxy.cut()]);
  await client.put(`${prefix}k`).value('2');
  await Promise.all([once(watcher, 'connected'), proxy.mend()]);
  await client.put(`${prefix}k`).value('3');
  await eventually(() => told.length === 3);
  assert.deepEqual(told, ['put k=1', 'put k=2', 'put k=3']);
  await watcher.cancel();
});

test('a stream answers a request for progress, and knows ids that the client chose', async (t) => {
  const { client, prefix } = fresh(t);
  const { header } = await client.put(`${prefix}k`).value('1');
  const stream = await client.watchClient.watch();
  const answers = [];
  stream.on('data', (answer) => answers.push(answer));
  stream.on('error', () => {});
  stream.write({ create_request: { key: Buffer.from(`${prefix}k`), watch_id: 77 } });
  await eventually(() => answers.length === 1);
  assert.deepEqual([answers[0].created, answers[0].watch_id], [true, '77']);
  stream.write({ progress_request: {} });
  await eventually(() => answers.length === 2);
  assert.deepEqual([answers[1].watch_id, answers[1].events], ['-1', []]);
  assert.ok(BigInt(answers[1].header.revision) >= BigInt(header.revision));
  stream.write({ cancel_request: { watch_id: 77 } });
  await eventually(() => answers.length === 3);
  assert.deepEqual([answers[2].canceled, answers[2].watch_id], [true, '77']);
  stream.cancel();
});
