// The Java client. Usage: BOOTSTRAP JOB TOPIC [key=value]...

import java.io.BufferedWriter;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public class Client {
    static final int TIMEOUT_MS = 30000;
    static final HexFormat HEX = HexFormat.of();

    static String bootstrap;
    static String topic;
    static Map<String, String> options = new HashMap<>();

    public static void main(String[] arguments) throws Exception {
        bootstrap = arguments[0];
        topic = arguments[2];
        for (int i = 3; i < arguments.length; i++) {
            String[] pair = arguments[i].split("=", 2);
            options.put(pair[0], pair[1]);
        }
        try {
            System.out.println(switch (arguments[1]) {
                case "write" -> write();
                case "read" -> read();
                case "member" -> member();
                case "ends" -> ends();
                case "times" -> times();
                case "newest" -> newest();
                case "topics" -> topics();
                case "create" -> create();
                case "delete" -> delete();
                default -> throw new IllegalArgumentException(arguments[1]);
            });
        } catch (Exception error) {
            Throwable cause = error instanceof ExecutionException ? error.getCause() : error;
            String text = cause.getClass().getSimpleName() + ": " + cause.getMessage();
            System.out.println("{\"ok\":false,\"why\":\"" + text.replaceAll("[\"\\\\\n]", "'") + "\"}");
        }
    }

    static byte[] unhex(String field) {
        return field.equals("-") ? null : HEX.parseHex(field);
    }

    static String hex(byte[] value) {
        return value == null ? "-" : HEX.formatHex(value);
    }

    static String text(String hexed) {
        return new String(unhex(hexed), StandardCharsets.UTF_8);
    }

    static String write() throws Exception {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", bootstrap);
        config.put("acks", options.getOrDefault("acks", "all"));
        config.put("enable.idempotence", options.getOrDefault("idempotent", "true"));
        config.put("compression.type", options.getOrDefault("codec", "none"));
        config.put("max.request.size", Integer.parseInt(options.getOrDefault("max", "1048576")));
        config.put("delivery.timeout.ms", TIMEOUT_MS);
        config.put("request.timeout.ms", 15000);
        config.put("max.block.ms", 15000);
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        var bytes = new ByteArraySerializer();
        try (var producer = new KafkaProducer<>(config, bytes, bytes)) {
            for (String line : Files.readAllLines(Path.of(options.get("in")))) {
                String[] f = line.split("\t", -1);
                Integer partition = f[0].equals("-") ? null : Integer.valueOf(f[0]);
                Long timestamp = Long.valueOf(f[1]);
                var record = new ProducerRecord<>(topic, partition, timestamp, unhex(f[2]), unhex(f[3]));
                for (String pair : f[4].isEmpty() ? new String[0] : f[4].split(",")) {
                    String[] header = pair.split(":", -1);
                    record.headers().add(new RecordHeader(text(header[0]), unhex(header[1])));
                }
                sent.add(producer.send(record));
            }
            producer.flush();
        }
        try (BufferedWriter out = Files.newBufferedWriter(Path.of(options.get("out")))) {
            for (Future<RecordMetadata> future : sent) {
                try {
                    RecordMetadata at = future.get();
                    out.write(at.hasOffset() ? at.partition() + "\t" + at.offset() : "?\t?");
                } catch (ExecutionException error) {
                    out.write("!\t" + error.getCause().getClass().getSimpleName());
                }
                out.write("\n");
            }
        }
        return "{\"ok\":true,\"count\":" + sent.size() + "}";
    }

    static KafkaConsumer<byte[], byte[]> consumer() {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", bootstrap);
        config.put("enable.auto.commit", false);
        config.put("auto.offset.reset", "none");
        config.put("default.api.timeout.ms", 15000);
        var bytes = new ByteArrayDeserializer();
        return new KafkaConsumer<>(config, bytes, bytes);
    }

    static List<TopicPartition> partitions(KafkaConsumer<?, ?> consumer) {
        return consumer.partitionsFor(topic).stream()
                .map(p -> new TopicPartition(topic, p.partition()))
                .collect(Collectors.toList());
    }

    static String read() throws Exception {
        var consumer = consumer();
        List<TopicPartition> partitions = partitions(consumer);
        consumer.assign(partitions);
        Map<Integer, Long> starts = new HashMap<>();
        consumer.beginningOffsets(partitions)
                .forEach((p, offset) -> starts.put(p.partition(), offset));
        for (String pair : options.getOrDefault("start", "").split(",")) {
            if (!pair.isEmpty()) {
                starts.put(Integer.valueOf(pair.split(":")[0]), Long.valueOf(pair.split(":")[1]));
            }
        }
        long wanted = 0;
        for (var end : consumer.endOffsets(partitions).entrySet()) {
            long start = starts.get(end.getKey().partition());
            consumer.seek(end.getKey(), start);
            wanted += end.getValue() - start;
        }
        wanted = Long.parseLong(options.getOrDefault("count", Long.toString(wanted)));
        long count = 0;
        long deadline = System.nanoTime() + TIMEOUT_MS * 1_000_000L;
        try (BufferedWriter out = Files.newBufferedWriter(Path.of(options.get("out")))) {
            while (count < wanted && System.nanoTime() < deadline) {
                for (ConsumerRecord<byte[], byte[]> r : consumer.poll(Duration.ofMillis(500))) {
                    out.write(line(r));
                    count++;
                }
            }
        }
        long began = System.nanoTime();
        consumer.close();
        long closeMs = (System.nanoTime() - began) / 1_000_000;
        return String.format("{\"ok\":%b,\"count\":%d,\"close_ms\":%d,\"why\":\"%d of %d records\"}",
                count == wanted, count, closeMs, count, wanted);
    }

    /** One member of a group until the stop file appears. */
    static String member() throws Exception {
        boolean cooperative = options.get("strategy").equals("cooperative");
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", bootstrap);
        config.put("group.id", options.get("group"));
        config.put("enable.auto.commit", false);
        config.put("auto.offset.reset", "earliest");
        if (options.containsKey("instance")) {
            config.put("group.instance.id", options.get("instance"));
        }
        config.put("session.timeout.ms", Integer.valueOf(options.get("session")));
        config.put("heartbeat.interval.ms", 500);
        config.put("partition.assignment.strategy", cooperative
                ? CooperativeStickyAssignor.class.getName() : RangeAssignor.class.getName());
        var bytes = new ByteArrayDeserializer();
        var consumer = new KafkaConsumer<>(config, bytes, bytes);
        TreeSet<Integer> owned = new TreeSet<>();
        consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
            @Override
            public void onPartitionsAssigned(Collection<TopicPartition> gained) {
                gained.forEach(p -> owned.add(p.partition()));
                note(owned);
            }

            @Override
            public void onPartitionsRevoked(Collection<TopicPartition> lost) {
                lost.forEach(p -> owned.remove(p.partition()));
                note(owned);
            }
        });
        while (!Files.exists(Path.of(options.get("stop")))) {
            StringBuilder lines = new StringBuilder();
            for (ConsumerRecord<byte[], byte[]> r : consumer.poll(Duration.ofMillis(200))) {
                lines.append(line(r));
            }
            Files.writeString(Path.of(options.get("out")), lines, StandardOpenOption.APPEND);
            try {
                consumer.commitSync();
            } catch (CommitFailedException | RebalanceInProgressException overtaken) {
                // Whoever has the partition next reads again.
            }
        }
        consumer.close();
        return "{\"ok\":true}";
    }

    static void note(TreeSet<Integer> owned) {
        String line = owned.stream().map(String::valueOf).collect(Collectors.joining(","));
        try {
            Files.writeString(
                    Path.of(options.get("owned")), line + "\n", StandardOpenOption.APPEND);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    static String line(ConsumerRecord<byte[], byte[]> r) {
        List<String> headers = new ArrayList<>();
        r.headers().forEach(h -> headers.add(
                hex(h.key().getBytes(StandardCharsets.UTF_8)) + ":" + hex(h.value())));
        return r.partition() + "\t" + r.offset() + "\t" + r.timestamp() + "\t"
                + hex(r.key()) + "\t" + hex(r.value()) + "\t" + String.join(",", headers) + "\n";
    }

    static String ends() {
        try (var consumer = consumer()) {
            var partitions = partitions(consumer);
            var low = consumer.beginningOffsets(partitions);
            var high = consumer.endOffsets(partitions);
            return "{\"ok\":true,\"ends\":{" + partitions.stream()
                    .map(p -> "\"" + p.partition() + "\":[" + low.get(p) + "," + high.get(p) + "]")
                    .collect(Collectors.joining(",")) + "}}";
        }
    }

    static String times() {
        List<String> moments = new ArrayList<>();
        try (var consumer = consumer()) {
            for (String moment : options.get("times").split(",")) {
                Map<TopicPartition, Long> asked = new HashMap<>();
                partitions(consumer).forEach(p -> asked.put(p, Long.valueOf(moment)));
                Map<Integer, Long> found = new TreeMap<>();
                consumer.offsetsForTimes(asked)
                        .forEach((p, at) -> found.put(p.partition(), at == null ? -1 : at.offset()));
                moments.add("\"" + moment + "\":" + object(found));
            }
        }
        return "{\"ok\":true,\"times\":{" + String.join(",", moments) + "}}";
    }

    /** Offsets of the records with the largest timestamp (KIP-734). */
    static String newest() throws Exception {
        try (var admin = Admin.create(Map.of("bootstrap.servers", (Object) bootstrap))) {
            var described = admin.describeTopics(List.of(topic)).allTopicNames().get();
            int count = described.get(topic).partitions().size();
            Map<TopicPartition, OffsetSpec> asked = new HashMap<>();
            for (int p = 0; p < count; p++) {
                asked.put(new TopicPartition(topic, p), OffsetSpec.maxTimestamp());
            }
            Map<Integer, Long> found = new TreeMap<>();
            admin.listOffsets(asked).all().get()
                    .forEach((p, at) -> found.put(p.partition(), at.offset()));
            return "{\"ok\":true,\"newest\":" + object(found) + "}";
        }
    }

    static String object(Map<Integer, Long> map) {
        return "{" + map.entrySet().stream()
                .map(e -> "\"" + e.getKey() + "\":" + e.getValue())
                .collect(Collectors.joining(",")) + "}";
    }

    static Admin admin() {
        return Admin.create(Map.of("bootstrap.servers", bootstrap, "default.api.timeout.ms", 15000,
                "request.timeout.ms", 14000));
    }

    static String topics() throws Exception {
        try (var admin = admin()) {
            var names = admin.listTopics().names().get();
            var described = admin.describeTopics(names).allTopicNames().get();
            return "{\"ok\":true,\"topics\":{" + described.values().stream()
                    .map(t -> "\"" + t.name() + "\":" + t.partitions().size())
                    .collect(Collectors.joining(",")) + "}}";
        }
    }

    static String create() throws Exception {
        try (var admin = admin()) {
            var created = admin.createTopics(List.of(
                    new NewTopic(topic, Integer.parseInt(options.get("partitions")), (short) 1)));
            created.all().get();
            return String.format("{\"ok\":true,\"partitions\":%d}", created.numPartitions(topic).get());
        }
    }

    static String delete() throws Exception {
        try (var admin = admin()) {
            admin.deleteTopics(List.of(topic)).all().get();
            return "{\"ok\":true}";
        }
    }
}
