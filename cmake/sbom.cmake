# What is compiled into the wheel, as CycloneDX where PEP 770 looks for it: onepass-….dist-info/sboms.
# No time and no random number stand in it: two builds of one source are equal.
set(sbom_cuda "")
set(sbom_cuda_ref "")
if(TARGET _cuda)
  set(sbom_cuda_ref ", \"cuda-runtime\"")
  set(sbom_cuda ",
    {
      \"type\": \"library\",
      \"bom-ref\": \"cuda-runtime\",
      \"name\": \"nvidia-cuda-runtime\",
      \"version\": \"${CMAKE_CUDA_COMPILER_VERSION}\",
      \"description\": \"libcudart_static.a, linked into the extension _cuda\",
      \"licenses\": [{\"license\": {\"name\": \"NVIDIA CUDA Toolkit EULA\"}}]
    }")
endif()
configure_file("${CMAKE_CURRENT_LIST_DIR}/sbom.json.in" "${CMAKE_CURRENT_BINARY_DIR}/onepass.cdx.json" @ONLY)
if(SKBUILD)
  install(FILES "${CMAKE_CURRENT_BINARY_DIR}/onepass.cdx.json" DESTINATION "${SKBUILD_METADATA_DIR}/sboms")
endif()
