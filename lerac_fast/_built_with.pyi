torch_version: str
cuda_version: str
cuda_architectures: str
cuda_absent: str
interface: str
