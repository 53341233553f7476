/** How XLA, CUDA and its libraries say that a device went away, or can be used no more by this process. Pure. */

/** Errors of CUDA after which a process can use the card no more (cuda.h: "the context cannot be used"). */
const driver = [
  "ILLEGAL_ADDRESS",
  "ILLEGAL_INSTRUCTION",
  "MISALIGNED_ADDRESS",
  "INVALID_ADDRESS_SPACE",
  "INVALID_PC",
  "HARDWARE_STACK_ERROR",
  "LAUNCH_FAILED",
  "LAUNCH_TIMEOUT",
  "ASSERT",
  "ECC_UNCORRECTABLE",
  "NVLINK_UNCORRECTABLE",
  "CONTAINED",
  "EXTERNAL_DEVICE",
  "CONTEXT_IS_DESTROYED",
  "DEVICE_UNAVAILABLE",
  "UNKNOWN"
]

/** The same by the runtime library's names (driver_types.h). */
const runtime = [
  "IllegalAddress",
  "IllegalInstruction",
  "MisalignedAddress",
  "InvalidAddressSpace",
  "InvalidPc",
  "HardwareStackError",
  "LaunchFailure",
  "LaunchTimeout",
  "Assert",
  "ECCUncorrectable",
  "NvlinkUncorrectable",
  "Contained",
  "ExternalDevice",
  "ContextIsDestroyed",
  "DevicesUnavailable",
  "Unknown"
]

const patterns = [
  new RegExp(`\\bCUDA_ERROR_(?:${driver.join("|")})\\b`),
  new RegExp(`\\bcudaError(?:${runtime.join("|")})\\b`),
  // a kernel of a library that broke off
  /\bCU(?:DNN|BLAS|SOLVER|SPARSE|FFT)_STATUS_(?:EXECUTION_FAILED|MAPPING_ERROR)\b|\bCUFFT_EXEC_FAILED\b/,
  /\billegal memory access|unspecified launch failure|uncorrectable ECC error/i,
  // of the driver, of a card that fell off its bus; and of runtimes at large
  /\bGPU is lost|fallen off the bus|\bdevice (?:is |was )?lost\b|\bdevice (?:or slice )?is unhealthy/i,
  // a run that ended as ABORTED, UNAVAILABLE or DATA_LOSS (as `failure.ts` of XLA words it): the plugin's own word for it
  /\(code (?:10|14|15), (?:LoadedExecutable_Execute|Event_Await|Buffer_\w+)\)/
]

/** Whether a message speaks of a device that this process can compute nothing on any more. */
export const isLost = (message: string): boolean => patterns.some((pattern) => pattern.test(message))
