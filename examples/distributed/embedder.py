"""An embedding model that replicas of Ray Serve compute with OpenVINO, behind OpenAI's /embeddings. Started by ray_serve.sh.

    MODEL_FOLDER=.../all-minilm-l6-v2-f16 serve run embedder:app

It takes a folder with openvino_model.xml and openvino_tokenizer.xml whose model gives last_hidden_state, and takes the mean of the tokens.
"""

import asyncio
import base64
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy
import openvino
from ray import serve
from starlette.responses import JSONResponse

FOLDER = os.environ["MODEL_FOLDER"]
THREADS = 1  # What a replica may use of its machine; num_cpus below reserves as much.
LONGEST = 512  # Tokens; OpenVINO would compute past what the model was trained for.


# On a cluster: num_replicas=N, or autoscaling_config={...}; ray_actor_options={"num_gpus": 1} and "GPU" below for graphics processors.
@serve.deployment(num_replicas=2, max_ongoing_requests=64, health_check_period_s=1, ray_actor_options={"num_cpus": 0.5})
class Embedder:
    def __init__(self, name):
        import openvino_tokenizers  # noqa: F401, here since it is to register the tokenizer's operations in the replica's process

        core = openvino.Core()
        self.name, self.requests = name, 0
        self.tokenizer = core.compile_model(f"{FOLDER}/openvino_tokenizer.xml", "CPU")
        self.model = core.compile_model(f"{FOLDER}/openvino_model.xml", "CPU", {"INFERENCE_NUM_THREADS": THREADS, "NUM_STREAMS": THREADS})
        # One infer request for each thread: a CompiledModel that is called has a single one, and fails when calls meet.
        self.local = threading.local()
        self.threads = ThreadPoolExecutor(THREADS, initializer=self.make_requests)

    def make_requests(self):
        self.local.tokenizer, self.local.model = self.tokenizer.create_infer_request(), self.model.create_infer_request()

    def embed(self, texts):
        tokens = self.local.tokenizer.infer({0: texts})
        inputs = {key.get_any_name(): value[:, :LONGEST] for key, value in tokens.items()}
        hidden = self.local.model.infer(inputs)["last_hidden_state"]
        mask = inputs["attention_mask"][:, :, None]
        rows = (hidden * mask).sum(axis=1) / mask.sum(axis=1)
        return (rows / numpy.linalg.norm(rows, axis=1, keepdims=True)).astype("<f4")

    async def __call__(self, request):
        if request.method == "GET":  # Which replica this is, for the test.
            return {"pid": os.getpid(), "requests": self.requests}
        body = await request.json()
        if body["model"] != self.name:
            return JSONResponse({"error": {"message": f"no model {body['model']!r}"}}, 404)
        self.requests += 1
        rows = await asyncio.get_running_loop().run_in_executor(self.threads, self.embed, body["input"])
        coded = body.get("encoding_format") == "base64"
        data = [{"index": i, "embedding": base64.b64encode(row.tobytes()).decode() if coded else row.tolist()} for i, row in enumerate(rows)]
        return {"object": "list", "model": self.name, "data": data}


app = Embedder.bind("all-minilm-l6-v2")
