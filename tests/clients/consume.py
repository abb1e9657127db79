"""Reads plans.events the way any consumer would: the ordinary Confluent client and its Avro
deserializer. Prints every event as a line of JSON until the topic ends.

    consume.py BOOTSTRAP REGISTRY_URL TOPIC
"""

import json
import sys

from confluent_kafka import DeserializingConsumer, KafkaError, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer


def main(bootstrap: str, registry: str, topic: str) -> None:
    consumer = DeserializingConsumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"consumer-test-{topic}",
            # Without this, records of aborted transactions would be read as facts.
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "value.deserializer": AvroDeserializer(SchemaRegistryClient({"url": registry})),
        }
    )
    partitions = consumer.list_topics(topic).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
    # A busy topic never ends: read to where it ended when this began. The last offset may belong
    # to a control record, so reaching the end is told by an end-of-partition event or by a later
    # message, never by counting.
    ends = {
        number: consumer.get_watermark_offsets(TopicPartition(topic, number))[1]
        for number in partitions
    }
    ended: set[int] = {number for number, end in ends.items() if end == 0}
    seen: set[str] = set()
    while len(ended) < len(partitions):
        try:
            message = consumer.poll(30)
        except Exception as error:  # the deserializing consumer raises what poll() would return
            if getattr(error, "code", None) == KafkaError._PARTITION_EOF:
                ended.add(error.kafka_message.partition())
                continue
            raise
        if message is None:
            raise SystemExit("nothing came within 30 seconds")
        if message.offset() + 1 >= ends[message.partition()]:
            ended.add(message.partition())
        headers = {name: value.decode() for name, value in message.headers()}
        # At-least-once consumers deduplicate by the CloudEvents id.
        if headers["ce_id"] in seen:
            continue
        seen.add(headers["ce_id"])
        event = {"type": headers["ce_type"], "subject": headers["ce_subject"], "data": message.value()}
        print(json.dumps(event, default=str), flush=True)
    consumer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
