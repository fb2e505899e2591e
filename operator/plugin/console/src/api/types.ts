// What the console reads of the kinds of fleetprof. Names are those of the CRDs; a test looks each up there.

export interface Meta {
  name: string;
  namespace?: string;
  uid: string;
  resourceVersion: string;
  creationTimestamp?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  managedFields?: ManagedFields[];
}

/** Which fields of an object somebody owns. */
export interface ManagedFields {
  manager: string;
  operation: 'Apply' | 'Update';
  subresource?: string;
  fieldsV1?: Record<string, unknown>;
}

export interface Condition {
  type: string;
  status: 'True' | 'False' | 'Unknown';
  reason: string;
  message: string;
}

export interface StoredProfile {
  type: string;
  samples: number;
}

export interface Target {
  pod: string;
  workload?: string;
  container?: string;
  runtime?: string;
  collector?: string;
  phase: string;
  reason?: string;
  message?: string;
  leftOut?: string;
  samples?: number;
  /** How long it is captured, where that is less than the session allows. */
  effectiveDuration?: string;
  coverage?: number;
  /** In how many of its CPU limit's periods it was throttled, in %. */
  throttledPercent?: number;
  /** How much of its native code has names, in % of all frames. */
  symbols?: { named: number };
  profiles?: StoredProfile[];
}

export interface SessionSpec {
  policyRef?: { kind?: string; name: string };
  target?: { workload?: { kind: string; name: string }; pods?: string[]; podSelector?: object };
  duration?: string;
  frequencyHz?: number;
  profiles?: string[];
  context?: { note?: string };
  trigger?: string;
  cause?: string;
  cancel?: boolean;
  resultDeadline?: string;
  requestedBy?: { username: string };
}

export interface SessionStatus {
  phase?: string;
  reason?: string;
  message?: string;
  app?: string;
  startTime?: string;
  runningTime?: string;
  captureEndTime?: string;
  endTime?: string;
  targetsSummary?: string;
  samples?: number;
  cpuPercent?: number;
  memoryPercent?: number;
  topFunctions?: { name: string; location?: string; selfPercent: string }[];
  targets?: Target[];
  /** What targets of one phase have in common, and do not say themselves. */
  shared?: (Omit<Target, 'pod' | 'profiles'> & { profiles?: unknown; capture?: string })[];
  conditions?: Condition[];
}

export interface Session {
  metadata: Meta;
  spec: SessionSpec;
  status?: SessionStatus;
}

export interface LinkedApp {
  namespace?: string;
  kind: string;
  name: string;
  container?: string;
  runtime?: string;
  pods: number;
  linked: number;
  agentVersions?: string[];
  agentModes?: string[];
  outdated?: number;
  state: string;
  reason: string;
  message?: string;
  lastProfileTime?: string;
}

export interface Policy {
  kind?: string;
  metadata: Meta;
  spec: {
    suspend?: boolean;
    session?: { limits?: { duration?: string; frequencyHz?: number } };
    /** What is edited by path. */
    schedule?: object;
    sampling?: object;
    frequencyHz?: number;
    triggers?: { alerts?: { matchers: string[] }[]; promQL?: { name: string }[] };
  };
  status?: {
    linkedApps?: LinkedApp[];
    linkedAppCount?: number;
    linkedAppsTruncated?: boolean;
    schedule?: string;
    nextSessionTime?: string;
    conditions?: Condition[];
  };
}
