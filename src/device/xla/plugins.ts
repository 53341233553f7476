/**
 * The plugins that this version knows: which wheels of the Python package index hold them, pinned by version and SHA-256,
 * and where they lie once installed. Nothing here opens one.
 */
import { existsSync, readFileSync } from "node:fs"
import { homedir } from "node:os"
import { join } from "node:path"

/** A file of the Python package index. */
export interface Wheel {
  /** The project's name in the index, normalised. */
  readonly project: string
  readonly version: string
  readonly file: string
  readonly sha256: string
}

export interface Plugin {
  /** Names its folder; devices are `--device xla:NAME`. */
  readonly name: "cpu" | "cuda" | "cuda-compiler" | "rocm" | "oneapi" | "tpu" | "metal"
  readonly provider: string
  readonly version: string
  /** The library, below the folder that the wheels are unpacked into. */
  readonly library: string
  readonly wheels: ReadonlyArray<Wheel>
  /** What the library runs on; default `linux-x64`. */
  readonly host?: string
  /** Of what nobody here has run, on no machine: what it needs beside the wheels. */
  readonly untried?: string
}

/**
 * XLA on the CPU, for tests: a third party's wheel that holds the library of zml/pjrt-artifacts' build
 * `manual-2026-06-23T00-20-00Z` of `pjrt-cpu_linux-amd64` unchanged (Apache-2.0).
 */
export const cpuPlugin: Plugin = {
  name: "cpu",
  provider: "xla:cpu",
  version: "2026.6.23",
  library: "fastatomstruct_xla_cpu/libpjrt_cpu.so",
  wheels: [
    {
      project: "fastatomstruct-xla-cpu",
      version: "2026.6.23",
      file: "fastatomstruct_xla_cpu-2026.6.23-py3-none-manylinux_2_27_x86_64.whl",
      sha256: "88b1c430b341b4bea40a37420311c9c75db6e22b46d2ff95b6986577bee6afe9"
    }
  ]
}

/** The most devices that the CPU's plugin is asked to show: each is a thread with memory of its own. */
export const mostCpuDevices = 64

/** Wheels by project, version, the rest of the file's name and SHA-256. */
const wheels = (rows: ReadonlyArray<readonly [string, string, string, string]>): ReadonlyArray<Wheel> =>
  rows.map(([project, version, tags, sha256]) => ({
    project,
    version,
    file: `${project.replaceAll("-", "_")}-${version}-${tags}`,
    sha256
  }))

/**
 * NVIDIA's plugin with its libraries, as pip resolved `jax-cuda13-plugin[with-cuda]` of this version. Every digest is the one
 * that the index states; the wheels of `cudaCompiler` were also downloaded, loaded and compiled with. No card has run any of it.
 */
export const cudaPlugin: Plugin = {
  name: "cuda",
  provider: "xla:cuda",
  version: "0.12.0.1",
  library: "jax_plugins/xla_cuda13/xla_cuda_plugin.so",
  // biome-ignore format: one wheel a line
  wheels: wheels([
    ["jax-cuda13-pjrt", "0.12.0.1", "py3-none-manylinux_2_27_x86_64.whl", "5899bb6177eda86ea532afb9a26794f2bdd04966f6a01f9028266b16c2b6cf90"],
    ["nvidia-cublas", "13.10.0.20", "py3-none-manylinux1_x86_64.manylinux_2_5_x86_64.whl", "dcc6d63884c53d07e267ce7e6feac17b2538cebaafec5db865736c3e28e4dc84"],
    ["nvidia-cuda-cupti", "13.5.25", "py3-none-manylinux_2_25_x86_64.whl", "9dcca41c12a734192b14e7128ae116bc9ce1b9da686e2ebf48ae7a4415f76650"],
    ["nvidia-cuda-nvcc", "13.5.37", "py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", "f5c4f7ead5d964fb4af42bbf1e6d3ec3c1e6e9d83b53749f691d387e7fcaa3a7"],
    ["nvidia-cuda-nvrtc", "13.5.37", "py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl", "86b4d68058807988b7d9af5b44917a0601e9c337f35ccd657bfb3c759ff8d8bc"],
    ["nvidia-cuda-runtime", "13.5.37", "py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", "df2b79a8852f10d1fef8c848489c49eebb5754051bf870202a862831412b179d"],
    ["nvidia-cudnn-cu13", "9.28.0.42", "py3-none-manylinux_2_27_x86_64.whl", "7358353c75bb121a58e5f7712fe6d588883dc1df8ba00f428237e44e97543c4d"],
    ["nvidia-cufft", "12.5.0.14", "py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", "b8be26837a5abad2b5b74f3e92dd29f622a42934b355be0961a48712cbba23ad"],
    ["nvidia-cusolver", "12.4.1.2", "py3-none-manylinux_2_27_x86_64.whl", "b3b8e02fd2f2df869369af075dc3a179d43f6f7b85e94632a7dce556697be044"],
    ["nvidia-cusparse", "12.9.4.2", "py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", "072667e58c851a318738f5527a12eb225cbf058803f2ea451c722d8cf8edddec"],
    ["nvidia-nccl-cu13", "2.32.3", "py3-none-manylinux_2_27_x86_64.whl", "1459723080ac889d73a26edfa3e04383a7928ab31ac8f0ec43b3ea9548b04ff3"],
    ["nvidia-nvjitlink", "13.5.37", "py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl", "280d7cb9649704145f074b8dbde500de04ce02d0872e066e20a83c17bcaa93eb"],
    ["nvidia-nvshmem-cu13", "3.8.0", "py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", "81a4d1f666543e6d34df6d2ff940c7da1435e34e186aab6f3c2b48861b64ef38"],
    ["nvidia-nvvm", "13.5.37", "py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl", "c41bfa362e407405163f103c2229f0765f8cc2ed7d148b754dc77f228bf7e070"],
    ["nvidia-cuda-cccl", "13.3.5.0.6", "py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", "d5230098fa2df5021e1a00c0c4eee41797671a91119d31e892463e5ccf3ee326"],
    ["nvidia-cuda-crt", "13.5.37", "py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", "e898b7f73d3035fa89915a3f7bf3b54a73e90249746111aed295822c4729bb29"]
  ])
}

/** What of it compiles for cards without one (257 MB): the plugin, `ptxas`, and the mathematical library of NVVM. */
export const cudaCompiler: Plugin = {
  ...cudaPlugin,
  name: "cuda-compiler",
  wheels: cudaPlugin.wheels.filter(({ project }) =>
    ["jax-cuda13-pjrt", "nvidia-cuda-nvcc", "nvidia-nvvm"].includes(project)
  )
}

/**
 * Other makers' plugins, by what their wheels say: they are installed like the others and opened through the same API. **Not run by
 * us**: their digests are those that the index states, and the places of the libraries were read in the wheels' lists of files.
 */
const untriedPlugins = {
  amd: {
    name: "rocm",
    provider: "xla:rocm",
    version: "0.12.0",
    library: "jax_plugins/xla_rocm10/xla_rocm_plugin.so",
    untried: "AMD's driver and ROCm 10.1",
    wheels: wheels([
      [
        "jax-rocm10-pjrt",
        "0.12.0",
        "py3-none-manylinux_2_27_x86_64.whl",
        "45ee7b471b71a582ce165dd63069b10d1d8923d849b61b6fa8783f1d13294edb"
      ]
    ])
  },
  intel: {
    name: "oneapi",
    provider: "xla:oneapi",
    version: "0.11.2",
    library: "jax_plugins/xla_oneapi/xla_oneapi_plugin.so",
    untried: "Intel's driver and the runtime of oneAPI",
    wheels: wheels([
      [
        "jax-oneapi-pjrt",
        "0.11.2",
        "py3-none-manylinux_2_27_x86_64.whl",
        "ae7250c5d4459dcfedf4de1bf683edfef0502861e44b6e9bfaa7d8133b4292c1"
      ]
    ])
  },
  tpu: {
    name: "tpu",
    provider: "xla:tpu",
    version: "0.0.51",
    library: "libtpu/libtpu.so",
    untried: "a virtual machine with TPUs of Google Cloud, whose terms the wheel is under",
    wheels: wheels([
      [
        "libtpu",
        "0.0.51",
        "cp312-cp312-manylinux_2_31_x86_64.whl",
        "aeb662a3174a89fd9a94ac64c965a72f43c65436f5546abbcb8968c9d9552631"
      ]
    ])
  },
  apple: {
    name: "metal",
    provider: "xla:metal",
    version: "0.0.5",
    library: "metal_pjrt_core/pjrt_c_api_mtl_plugin.dylib",
    host: "darwin-arm64",
    untried: "macOS 26",
    wheels: wheels([
      [
        "metal-pjrt-core",
        "0.0.5",
        "py3-none-macosx_26_0_arm64.whl",
        "6f6cde411b7b2ef08bd3afc48b68bf09df52ef20007ff3321bf13ab885e7bbfe"
      ]
    ])
  }
} as const satisfies Readonly<Record<string, Plugin>>

/** Whether XLA's GPU backend is in it, with its options and flags. */
export const isGpu = ({ name }: Plugin): boolean => name === "cuda" || name === "rocm" || name === "oneapi"

/** Every plugin that a device is named after. */
export const plugins: ReadonlyArray<Plugin> = [cpuPlugin, cudaPlugin, ...Object.values(untriedPlugins)]

/** The plugin behind `--device xla:NAME`; undefined for any other device. */
export const pluginOf = (provider: string): Plugin | undefined => plugins.find((plugin) => plugin.provider === provider)

/** What `exp device install` calls each plugin. */
export const installable: Readonly<Record<string, Plugin>> = {
  cpu: cpuPlugin,
  nvidia: cudaPlugin,
  "nvidia-compiler": cudaCompiler,
  ...untriedPlugins
}

/** The command that installs a plugin. */
export const installCommand = ({ name }: Plugin): string =>
  `exp device install ${Object.keys(installable).find((key) => installable[key]!.name === name) ?? name}`

/** Where everything that can be fetched or computed again lies: OVERTONE_CACHE, else the user's cache folder. */
export const cacheFolder = (): string =>
  process.env["OVERTONE_CACHE"] ?? join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "overtone")

/** The folder of an installed plugin. Its file `installed.json` is written last. */
export const pluginFolder = ({ name, version }: Plugin): string => join(cacheFolder(), "devices", `${name}-${version}`)

/** The name of the file that says that a plugin is whole. */
export const receiptFile = "installed.json"

/** An installed plugin's library, or the sentence that says why there is none. */
export const locatePlugin = (plugin: Plugin): { readonly path: string } | { readonly missing: string } => {
  const folder = pluginFolder(plugin)
  const path = join(folder, plugin.library)
  if (!existsSync(join(folder, receiptFile)) || !existsSync(path)) {
    return {
      missing: `the XLA plugin ${plugin.provider} ${plugin.version} is not installed; run \`${installCommand(plugin)}\`.`
    }
  }
  return { path }
}

/** A CUDA plugin that can compile without a card: that of all the libraries, or that of the compiler alone. */
export const locateCompiler = (): ReturnType<typeof locatePlugin> => {
  const whole = locatePlugin(cudaPlugin)
  return "path" in whole ? whole : locatePlugin(cudaCompiler)
}

/** What tells one build of an installed plugin from another: its wheels' digests. */
export const pluginIdentity = (plugin: Plugin): string => {
  const receipt = join(pluginFolder(plugin), receiptFile)
  return existsSync(receipt) ? readFileSync(receipt, "utf8") : `${plugin.name} ${plugin.version}`
}
