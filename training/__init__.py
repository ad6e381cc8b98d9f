"""How `model=smollm2-135m-think` was made: on a host with torch and transformers, and no other part of the
orchestrator than `orchestrator.worked`. Nothing that serves or measures imports this."""
