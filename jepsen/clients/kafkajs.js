// The kafkajs client. Usage: BOOTSTRAP JOB TOPIC [key=value]...
// Its consumer works with groups only: it writes, administers, and is a member.

const fs = require("fs");
const { Kafka, CompressionTypes, logLevel } = require("kafkajs");

const unhex = (field) => (field === "-" ? null : Buffer.from(field, "hex"));

const tohex = (value) => (value == null ? "-" : value.toString("hex"));

const jobs = {
  async write(kafka, topic, options) {
    const idempotent = (options.idempotent ?? "true") === "true";
    const producer = kafka.producer({ idempotent, allowAutoTopicCreation: true });
    await producer.connect();
    const messages = fs.readFileSync(options.in, "utf8").split("\n").filter((l) => l).map(parse);
    const acks = [];
    // One send is one request per leader; offsets come back as the base of each partition's batch.
    for (let at = 0; at < messages.length; at += 100) {
      const chunk = messages.slice(at, at + 100);
      try {
        const answer = await producer.send({
          topic,
          messages: chunk,
          acks: (options.acks ?? "all") === "all" ? -1 : Number(options.acks),
          compression: options.codec === "gzip" ? CompressionTypes.GZIP : CompressionTypes.None,
        });
        const next = new Map();
        for (const part of answer ?? []) next.set(part.partition, BigInt(part.baseOffset ?? -1));
        for (const message of chunk) {
          const offset = next.get(message.partition);
          if (offset === undefined || offset < 0n) acks.push("?\t?");
          else {
            acks.push(`${message.partition}\t${offset}`);
            next.set(message.partition, offset + 1n);
          }
        }
      } catch (error) {
        const cause = error.cause ?? error;
        for (const _ of chunk) acks.push(`!\t${cause.type ?? cause.message}`);
      }
    }
    await producer.disconnect();
    fs.writeFileSync(options.out, acks.map((ack) => ack + "\n").join(""));
    return { ok: true, count: acks.length };
  },

  /** One member of a group until the stop file appears. */
  async member(kafka, topic, options) {
    const consumer = kafka.consumer({
      groupId: options.group,
      sessionTimeout: Number(options.session),
      heartbeatInterval: 500,
      maxWaitTimeInMs: 200,
    });
    const note = (partitions) =>
      fs.appendFileSync(options.owned, [...partitions].sort().join(",") + "\n");
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) =>
      note(payload.memberAssignment[topic] ?? []),
    );
    consumer.on(consumer.events.REBALANCING, () => note([]));
    await consumer.connect();
    await consumer.subscribe({ topic, fromBeginning: true });
    await consumer.run({
      autoCommit: false,
      eachMessage: async ({ partition, message }) => {
        const pairs = [];
        for (const [name, given] of Object.entries(message.headers ?? {})) {
          for (const value of [].concat(given)) pairs.push(`${tohex(Buffer.from(name))}:${tohex(value)}`);
        }
        const fields = [partition, message.offset, message.timestamp];
        fields.push(tohex(message.key), tohex(message.value), pairs.join(","));
        fs.appendFileSync(options.out, fields.join("\t") + "\n");
        const offset = (BigInt(message.offset) + 1n).toString();
        await consumer.commitOffsets([{ topic, partition, offset }]);
      },
    });
    while (!fs.existsSync(options.stop)) await new Promise((done) => setTimeout(done, 100));
    await consumer.disconnect();
    return { ok: true };
  },

  async ends(kafka, topic) {
    const found = await withAdmin(kafka, (admin) => admin.fetchTopicOffsets(topic));
    const ends = found.map((p) => [p.partition, [Number(p.low), Number(p.high)]]);
    return { ok: true, ends: Object.fromEntries(ends) };
  },

  async times(kafka, topic, options) {
    const times = {};
    for (const moment of options.times.split(",")) {
      const ask = (admin) => admin.fetchTopicOffsetsByTimestamp(topic, Number(moment));
      const found = await withAdmin(kafka, ask);
      times[moment] = Object.fromEntries(found.map((p) => [p.partition, Number(p.offset)]));
    }
    return { ok: true, times };
  },

  async topics(kafka) {
    const found = await withAdmin(kafka, (admin) => admin.fetchTopicMetadata());
    const topics = found.topics.map((t) => [t.name, t.partitions.length]);
    return { ok: true, topics: Object.fromEntries(topics) };
  },

  async create(kafka, topic, options) {
    const wanted = [{ topic, numPartitions: Number(options.partitions), replicationFactor: 1 }];
    const created = await withAdmin(kafka, (admin) => admin.createTopics({ topics: wanted }));
    return { ok: created, why: "TOPIC_ALREADY_EXISTS: createTopics answered false" };
  },

  async delete(kafka, topic) {
    await withAdmin(kafka, (admin) => admin.deleteTopics({ topics: [topic] }));
    return { ok: true };
  },
};

function parse(line) {
  const [partition, timestamp, key, value, fields] = line.split("\t");
  const headers = {};
  for (const pair of fields.split(",").filter((p) => p)) {
    const [name, content] = pair.split(":");
    headers[unhex(name).toString("utf8")] = unhex(content);
  }
  const message = { timestamp, key: unhex(key), value: unhex(value), headers };
  if (partition !== "-") message.partition = Number(partition);
  return message;
}

async function withAdmin(kafka, work) {
  const admin = kafka.admin();
  await admin.connect();
  try {
    return await work(admin);
  } finally {
    await admin.disconnect();
  }
}

async function main() {
  const [bootstrap, job, topic, ...rest] = process.argv.slice(2);
  const options = Object.fromEntries(rest.map((pair) => pair.split(/=(.*)/s).slice(0, 2)));
  const kafka = new Kafka({
    clientId: "trial",
    brokers: [bootstrap],
    logLevel: logLevel.NOTHING,
  });
  try {
    console.log(JSON.stringify(await jobs[job](kafka, topic, options)));
  } catch (error) {
    const cause = error.errors?.[0] ?? error.cause ?? error;
    console.log(JSON.stringify({ ok: false, why: `${cause.type ?? cause.name}: ${cause.message}` }));
  }
}

main();
