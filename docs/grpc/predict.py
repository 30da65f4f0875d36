"""Ask VideoPure about a video over gRPC: python docs/grpc/predict.py clip.mp4 top_k=1.

It needs `pip install grpcio grpcio-tools` and nothing of VideoPure. Run it in the folder that the
server was started in, which holds key_file.json. gRPC's own status is OK for errors as well: theirs
is in the `code` of the JSON.
"""

import argparse
import json
import sys
from pathlib import Path

import grpc

SIZE = 64 * 1024 * 1024  # max_request_size of config.properties; gRPC's own default is 4 MiB


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("options", nargs="*", metavar="NAME=VALUE")
    parser.add_argument("--address", default="127.0.0.1:7070")
    parser.add_argument("--model", default="videopure")
    asked = parser.parse_args()

    sys.path.insert(0, str(Path(__file__).parent))  # where the next line looks
    messages, services = grpc.protos_and_services("inference.proto")
    fields = {"video": asked.video.read_bytes()}
    for option in asked.options:
        name, _, value = option.partition("=")
        fields[name] = value.encode()
    key = json.loads(Path("key_file.json").read_text())["inference"]["key"]
    limits = [("grpc.max_send_message_length", SIZE), ("grpc.max_receive_message_length", SIZE)]
    with grpc.insecure_channel(asked.address, limits) as channel:
        answer = services.InferenceAPIsServiceStub(channel).Predictions(
            messages.PredictionsRequest(model_name=asked.model, input=fields),
            metadata=[("authorization", f"Bearer {key}")],
            timeout=300,
        )
    body = json.loads(answer.prediction)
    print(json.dumps(body, indent=2))
    return 1 if body.get("code", 200) >= 400 else 0


if __name__ == "__main__":
    sys.exit(main())
