/**
 * The graphics adapters that Vulkan's loader knows, on Linux: what WebGPU chooses from there. The runtime opens an adapter and
 * does not say which; its name comes from here. A loader that lies beside the driver that VK_ICD_FILENAMES names is found
 * too: the runtime then gets it by its name, as every library that is open already.
 */
import { dirname, join } from "node:path"
import { allocate, libraryFunction, loadLibrary, outParameter, pointersAt, stringAt } from "../../ffi.ts"

export interface Adapter {
  /** As the driver names it. */
  readonly name: string
  /** Whether it computes on the CPU, as SwiftShader and lavapipe do. */
  readonly software: boolean
}

const P = "void *"

/** Where a loader may be, in the order in which they are tried. */
const candidates = (): ReadonlyArray<string> => {
  const drivers = [process.env["VK_DRIVER_FILES"], process.env["VK_ICD_FILENAMES"]]
  const files = drivers.flatMap((list) => list?.split(":").filter((file) => file !== "") ?? [])
  return ["libvulkan.so.1", ...new Set(files.map((file) => join(dirname(file), "libvulkan.so.1")))]
}

const openLoader = (): ReturnType<typeof loadLibrary> | undefined => {
  for (const path of candidates()) {
    try {
      return loadLibrary(path)
    } catch {
      // the next may be there
    }
  }
  return undefined
}

/** VkPhysicalDeviceType, from the one that WebGPU likes best: discrete, integrated, virtual, other, CPU. */
const preference: ReadonlyArray<number> = [2, 1, 3, 0, 4]
const softwareType = 4

/** The adapter that WebGPU takes first when asked for speed; undefined where Vulkan knows none, or on other systems. */
export const vulkanAdapter = (): Adapter | undefined => {
  if (process.platform !== "linux") return undefined
  const loader = openLoader()
  if (loader === undefined) return undefined
  const createInstance = libraryFunction<[bigint, null, bigint], number>(loader, "vkCreateInstance", "int", [P, P, P])
  const destroyInstance = libraryFunction<[bigint, null], void>(loader, "vkDestroyInstance", "void", [P, P])
  const enumerate = libraryFunction<[bigint, bigint, bigint], number>(loader, "vkEnumeratePhysicalDevices", "int", [
    P,
    P,
    P
  ])
  const properties = libraryFunction<[bigint, bigint], void>(loader, "vkGetPhysicalDeviceProperties", "void", [P, P])
  // VkInstanceCreateInfo: its sType is 1, everything else may be zero
  const info = allocate(64)
  new Uint32Array(info.buffer, info.byteOffset, 1)[0] = 1
  const instance = outParameter((cell) => createInstance(info.address, null, cell))
  if (instance === 0n) return undefined
  try {
    const most = 16
    const [count, list] = [allocate(4), allocate(8 * most)]
    const counted = new Uint32Array(count.buffer, count.byteOffset, 1)
    counted[0] = most
    enumerate(instance, count.address, list.address)
    const adapters = [...pointersAt(list.address, counted[0])].map((device) => {
      // VkPhysicalDeviceProperties: 824 bytes; the type is the fifth of its words, the name follows
      const block = allocate(1024)
      properties(device, block.address)
      const type = new Uint32Array(block.buffer, block.byteOffset, 5)[4]!
      return { name: stringAt(block.address + 20n), type }
    })
    const [best] = adapters.toSorted((a, b) => preference.indexOf(a.type) - preference.indexOf(b.type))
    return best === undefined ? undefined : { name: best.name, software: best.type === softwareType }
  } finally {
    destroyInstance(instance, null)
  }
}
