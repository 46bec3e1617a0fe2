//! Model names to local directories: the Hugging Face hub's cache and routes.
