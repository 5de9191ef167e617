/* What an old llama.cpp looks like from outside: some of what residency calls is not there yet. */
#pragma once
struct llama_model;
struct llama_model_params {
    int n_gpu_layers;
};
