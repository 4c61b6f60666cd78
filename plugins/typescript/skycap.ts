/**
 * skycap's client: one file without dependencies, to be copied into a backend.
 * Runs wherever there is fetch: Node 20.3 or newer, a route handler of Next.js, Deno, Bun.
 */

export type JobState = "scheduled" | "available" | "running" | "retryable" | "completed" | "cancelled" | "discarded";

/** Which jobs of the kind count as the same one: `key` outright, or `by` these fields of the payload. */
export interface Unique {
  key?: string;
  by?: string[];
  /** If not given, until its job has ended. */
  withinSeconds?: number;
  onConflict?: "keep" | "replace" | "debounce";
}

/** What is not given is as the kind itself says. */
export interface JobOptions {
  /** The same id twice is one job. Made if not given. */
  id?: string;
  /** Of the payload's schema; if not given, the newest. */
  version?: number;
  delaySeconds?: number;
  /** Instead of a delay. */
  at?: Date | string;
  deadlineSeconds?: number;
  /** Instead of seconds: after it, the job is not started any more. */
  deadline?: Date | string;
  /** 1 (first) … 1000. */
  priority?: number;
  unique?: Unique;
  tags?: string[];
  labels?: Record<string, string>;
}

export interface CallOptions {
  /** Its reason is what the call then throws. */
  signal?: AbortSignal;
  /** Of each of the at most four tries; 10,000 if not given. */
  timeoutMs?: number;
}

export interface EnqueueOptions extends JobOptions, CallOptions {
  /** This request again, for 24 hours: the same key with the same job is one job, with another it is refused (409). */
  idempotencyKey?: string;
}

/** `duplicate`: that job was there already, and nothing was added. */
export interface Enqueued {
  jobId: string;
  state: JobState;
  duplicate: boolean;
}

/** Times are ISO 8601. */
export interface Job {
  id: string;
  kind: string;
  queue: string;
  state: JobState;
  /** How many have begun. */
  attempt: number;
  priority: number;
  enqueuedAt: string;
  dueAt: string | null;
  startedAt: string | null;
  finishedAt: string | null;
  deadline: string | null;
  tags: string[];
  /** The limit at which it waits until others have passed. */
  waitsAt: string | null;
  progress: { fraction: number; note: string; at: string } | null;
  log: { number: number; at: string; text: string }[];
  errors: { attempt: number; at: string; error: string }[];
  /** Why it was discarded or cancelled. */
  reason: string | null;
  /** What its handler returned. */
  result: unknown;
  /** Only for a token with the scope admin. */
  payload?: unknown;
}

/** A transaction of Prisma, or a client of pg in one. */
export type Transaction =
  | { $queryRaw<T>(query: TemplateStringsArray, ...values: unknown[]): PromiseLike<T> }
  | { query(text: string, values: unknown[]): PromiseLike<{ rows: unknown[] }> };

export class SkycapError extends Error {
  override name = "SkycapError";
  /** 0 when there was no answer. */
  readonly status: number;
  /** Such as VALIDATION_001; UNREACHABLE or TIMEOUT when there was no answer. */
  readonly code: string;
  /** The daemon's log has it under this id. */
  readonly requestId: string | undefined;
  /** Whether the same call may succeed later; an enqueue with the same id or idempotency key does no harm. */
  readonly retryable: boolean;
  readonly retryAfterSeconds: number | undefined;

  constructor(message: string, about: { status: number; code: string; requestId?: string; retryAfterSeconds?: number }) {
    super(message);
    this.status = about.status;
    this.code = about.code;
    this.requestId = about.requestId;
    this.retryable = about.status >= 500 || [0, 408, 429].includes(about.status);
    this.retryAfterSeconds = about.retryAfterSeconds;
  }
}

const FINAL = new Set<string>(["completed", "cancelled", "discarded"] satisfies JobState[]);
const RETRIES = 3;
const TIMEOUT_MS = 10_000;
const LONGEST_PAUSE_SECONDS = 30;
/** Some versions of Next.js keep what is fetched, if they are not told otherwise. */
const UNCACHED = { cache: "no-store" } as const;
/** Three heartbeats of the daemon. */
const SILENCE_MS = 45_000;

/** `Kinds` is the interface that `skycap kinds --typescript` writes: the payload of every kind. */
export class Skycap<Kinds extends object = Record<string, object>> {
  readonly #url: string;
  readonly #headers: Record<string, string>;
  readonly #versions: Partial<Record<string, number>>;
  readonly #fetch: typeof fetch;

  /** Without a token only for a daemon on this machine, in development. Give the `VERSIONS` that come with `Kinds`. */
  constructor(options: {
    url: string;
    token?: string | undefined;
    versions?: Partial<Record<keyof Kinds & string, number>>;
    fetch?: typeof fetch;
  }) {
    this.#url = options.url.replace(/\/+$/, "");
    const token = options.token?.trim();
    // fetch would show it in its error.
    if (token && !/^[\x21-\x7e]+$/.test(token)) throw new TypeError("the token of skycap has a character no token has");
    this.#headers = token ? { Authorization: `Bearer ${token}` } : {};
    this.#versions = options.versions ?? {};
    this.#fetch = options.fetch ?? ((input, init) => fetch(input, init));
  }

  /** Resolves when skycap has stored the job; an enqueue that is repeated after a lost answer is still one job. */
  async enqueue<K extends keyof Kinds & string>(kind: K, payload: Kinds[K], options: EnqueueOptions = {}): Promise<Enqueued> {
    return await this.#call("POST", "/api/jobs", options, this.#document(kind, payload, options));
  }

  /** All of them or none; at most 1000. */
  async enqueueMany<K extends keyof Kinds & string>(
    jobs: readonly Wanted<Kinds, K>[],
    options: CallOptions & { idempotencyKey?: string } = {},
  ): Promise<Enqueued[]> {
    const documents = jobs.map((job) => this.#document(job.kind, job.payload, { ...options, ...job.options }));
    const answer = await this.#call<{ jobs: Enqueued[] }>("POST", "/api/jobs/batch", options, { jobs: documents });
    return answer.jobs;
  }

  /**
   * The job exists if and only if the transaction is committed. A daemon then moves it to its queue: until it has, mostly
   * within milliseconds, `get` does not know it.
   */
  async enqueueTx<K extends keyof Kinds & string>(
    tx: Transaction,
    kind: K,
    payload: Kinds[K],
    options: JobOptions = {},
  ): Promise<Pick<Enqueued, "jobId" | "duplicate">> {
    const jobs = JSON.stringify([this.#document(kind, payload, options)]);
    const rows =
      "$queryRaw" in tx
        ? await tx.$queryRaw<unknown[]>`SELECT id, duplicate FROM skycap.enqueue_many_v1(${jobs}::jsonb)`
        : (await tx.query("SELECT id, duplicate FROM skycap.enqueue_many_v1($1::jsonb)", [jobs])).rows;
    const [row] = rows as [{ id: string; duplicate: boolean }];
    return { jobId: row.id, duplicate: row.duplicate };
  }

  /** undefined when there is no such job, or none any more. */
  async get(jobId: string, options: CallOptions = {}): Promise<Job | undefined> {
    try {
      return await this.#call<Job>("GET", pathOf(jobId), options);
    } catch (error) {
      if (error instanceof SkycapError && error.status === 404) return undefined;
      throw error;
    }
  }

  /** The job when it has ended, in whichever way. Give a signal, such as AbortSignal.timeout(60_000). */
  async wait(jobId: string, options: CallOptions = {}): Promise<Job> {
    let job = await this.get(jobId, options);
    for (let failures = 0; job && !FINAL.has(job.state); ) {
      const ended: JobState | undefined = await this.#follow(jobId, options.signal);
      if (!ended) await pause(backoffSeconds(++failures), options.signal); // no stream: this asks again and again
      job = (await this.get(jobId, options)) ?? (ended && { ...job, state: ended }); // it may be forgotten by now
    }
    if (!job) throw new SkycapError(`there is no job ${jobId}, or none any more`, { status: 404, code: "NOT_FOUND_001" });
    return job;
  }

  /** Needs a token with the scope admin, as does `retry`. */
  async cancel(jobId: string, options: CallOptions = {}): Promise<Pick<Enqueued, "jobId" | "state">> {
    return await this.#call("POST", `${pathOf(jobId)}/cancel`, options, {});
  }

  /** Run a discarded job again. */
  async retry(jobId: string, options: CallOptions = {}): Promise<Pick<Enqueued, "jobId" | "state">> {
    return await this.#call("POST", `${pathOf(jobId)}/retry`, options, {});
  }

  #document(kind: string, payload: unknown, options: EnqueueOptions): Record<string, unknown> {
    // A new id would make the same idempotency key another request each time.
    const id = options.idempotencyKey === undefined ? newId() : undefined;
    return requestDocument(kind, payload, { ...defined({ id, version: this.#versions[kind] }), ...defined(options) });
  }

  async #call<T>(method: string, path: string, options: EnqueueOptions, body?: unknown): Promise<T> {
    const headers: Record<string, string> = {};
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (options.idempotencyKey !== undefined) headers["Idempotency-Key"] = options.idempotencyKey;
    const request = { method, headers, ...(body !== undefined && { body: JSON.stringify(body) }) };
    for (let attempt = 1; ; attempt++) {
      try {
        return (await (await this.#send(path, request, options)).json()) as T;
      } catch (thrown) {
        const error = problemOf(thrown, options.signal);
        const seconds = (error.retryAfterSeconds ?? 0) + backoffSeconds(attempt);
        if (!error.retryable || attempt > RETRIES || seconds > LONGEST_PAUSE_SECONDS) throw error;
        await pause(seconds, options.signal);
      }
    }
  }

  async #send(path: string, init: RequestInit, { signal, timeoutMs = TIMEOUT_MS }: CallOptions): Promise<Response> {
    const limit = AbortSignal.timeout(timeoutMs);
    return await this.#ask(path, init, signal ? AbortSignal.any([signal, limit]) : limit);
  }

  async #ask(path: string, init: RequestInit, signal: AbortSignal): Promise<Response> {
    const headers = { Accept: "application/json", ...this.#headers, ...(init.headers as Record<string, string>) };
    const response = await this.#fetch(this.#url + path, { ...init, ...UNCACHED, headers, signal, redirect: "error" });
    if (!response.ok) throw await refusal(response);
    return response;
  }

  /** The state in which the job ended; undefined when that could not be followed to the end. */
  async #follow(jobId: string, signal?: AbortSignal): Promise<JobState | undefined> {
    const silence = new AbortController();
    let timer = setTimeout(() => silence.abort(), SILENCE_MS);
    try {
      const both = signal ? AbortSignal.any([signal, silence.signal]) : silence.signal;
      const response = await this.#ask(`${pathOf(jobId)}/events`, { headers: { Accept: "text/event-stream" } }, both);
      const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (let read = await reader?.read(); read && !read.done; read = await reader?.read()) {
        clearTimeout(timer);
        timer = setTimeout(() => silence.abort(), SILENCE_MS);
        const lines = (text + read.value).split(/\r?\n/);
        text = lines.pop() ?? "";
        const states = lines.filter((line) => line.startsWith("event:")).map((line) => line.slice(6).trim());
        const ended = states.find((state) => FINAL.has(state));
        if (ended) return ended as JobState;
      }
    } catch {
      signal?.throwIfAborted(); // of whatever else is wrong, `get` has the better words
    } finally {
      clearTimeout(timer);
      silence.abort();
    }
    return undefined;
  }
}

/** One of `enqueueMany`'s: the payload is that of its own kind. */
export type Wanted<Kinds extends object, K extends keyof Kinds & string = keyof Kinds & string> = {
  [Kind in K]: { kind: Kind; payload: Kinds[Kind]; options?: JobOptions };
}[K];

/** The job as JSON, the same for HTTP and SQL. */
export function requestDocument(kind: string, payload: unknown, options: JobOptions = {}): Record<string, unknown> {
  const { id, version, delaySeconds, at, deadlineSeconds, deadline, priority, unique, tags, labels } = options;
  const said = { id, version, delaySeconds, at, deadlineSeconds, deadline, priority, unique, tags, labels };
  return { kind, payload, ...defined(said) };
}

/** A UUIDv7 (RFC 9562): unique without asking anyone, and sorted by the time it was made. */
export function newId(): string {
  const time = Date.now().toString(16).padStart(12, "0");
  const bytes = crypto.getRandomValues(new Uint8Array(10));
  bytes[0] = (bytes[0]! & 0x0f) | 0x70;
  bytes[2] = (bytes[2]! & 0x3f) | 0x80;
  const chance = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [time.slice(0, 8), time.slice(8), chance.slice(0, 4), chance.slice(4, 8), chance.slice(8)].join("-");
}

function defined<T extends object>(options: T): { [Name in keyof T]?: Exclude<T[Name], undefined> } {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as never;
}

function pathOf(jobId: string): string {
  return `/api/jobs/${encodeURIComponent(jobId)}`;
}

async function refusal(response: Response): Promise<SkycapError> {
  const { status } = response;
  const about = (await response.json().catch(() => ({}))) as { code?: unknown; message?: unknown; requestId?: unknown };
  const retryAfter = Number(response.headers.get("Retry-After") ?? Number.NaN);
  return new SkycapError(typeof about.message === "string" ? about.message : `skycap answered with HTTP ${status}`, {
    status,
    code: typeof about.code === "string" ? about.code : `HTTP_${status}`,
    ...(typeof about.requestId === "string" && { requestId: about.requestId }),
    ...(Number.isFinite(retryAfter) && { retryAfterSeconds: retryAfter }),
  });
}

/** Whatever fetch throws as a SkycapError; the caller's own reason is thrown as it is. */
function problemOf(thrown: unknown, signal: AbortSignal | undefined): SkycapError {
  if (thrown instanceof SkycapError) return thrown;
  signal?.throwIfAborted();
  const isLate = thrown instanceof Error && ["TimeoutError", "AbortError"].includes(thrown.name);
  const cause = thrown instanceof Error && thrown.cause instanceof Error ? thrown.cause.message : String(thrown);
  return isLate
    ? new SkycapError("skycap did not answer in time", { status: 0, code: "TIMEOUT" })
    : new SkycapError(`skycap cannot be reached: ${cause}`, { status: 0, code: "UNREACHABLE" });
}

/** Half of it is chance, so that many callers do not come again at once. */
function backoffSeconds(attempt: number): number {
  return Math.min(5, 0.2 * 2 ** attempt) * (0.5 + Math.random() / 2);
}

function pause(seconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      clearTimeout(timer);
      reject(signal?.reason as Error);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, seconds * 1000);
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
  });
}
