package bfbridge;

import java.io.Closeable;
import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.LongBuffer;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import loci.common.Location;

/**
 * What a thread's loci.common.Location takes for files, in place of the disk.
 *
 * Location asks for every name that it meets and for every stream that it opens. Names that Access
 * objects to become names that no file has, or end the call. Location hands the same object to every
 * stream that is opened on a name; streams would then share one position and byte order. This map
 * makes a new handle for each.
 */
public final class FileMap extends HashMap<String, Object> implements Closeable {

  private static final long serialVersionUID = 1L;

  /** Questions while a file is opened, or a region is read, before it must be a circle. */
  private static final int MOST_ASKED = 5_000_000;

  /** With this in it, a name is that of no file, and opens none. */
  private static final String NO_FILE = "\0";

  private final transient Map<String, Source> sources = new ConcurrentHashMap<>();
  private final transient Map<String, Object> others = new ConcurrentHashMap<>();
  private final boolean local;
  private final transient Access access;
  private volatile boolean detecting;
  private volatile String refusal;
  private volatile boolean refusalPassed;
  private transient volatile byte[] watched;
  private volatile int cutShort;
  private volatile int ranOut;
  private volatile int reads;
  private volatile int round;
  private int asked;
  private transient volatile LongBuffer counter;

  /**
   * @param local whether files on disk are read through this map as well, to watch over the reads
   * @param access what may be opened
   */
  public FileMap(boolean local, Access access) {
    this.local = local;
    this.access = access;
  }

  /** While the format is looked for, what may not be opened is as if it were not there. */
  void detect(boolean now) {
    detecting = now;
  }

  Access access() {
    return access;
  }

  /**
   * What was refused, as "objection: name", or null; forgets it.
   *
   * @param failed whether the call ended with an error; else what was passed over does not count
   */
  public String takeRefusal(boolean failed) {
    String found = failed || !refusalPassed ? refusal : null;
    refusal = null;
    refusalPassed = false;
    return found;
  }

  /** Adds a file under an absolute name. */
  public void add(String name, Source source) {
    sources.put(name, source);
  }

  /** Counts every read in the first eight bytes of a direct buffer as well. */
  public void countIn(ByteBuffer buffer) {
    counter = buffer.order(ByteOrder.nativeOrder()).asLongBuffer();
  }

  /** Watches an array that pixels are about to be read into, or null; forgets what was seen. */
  public void watch(byte[] array) {
    watched = array;
    cutShort = 0;
    ranOut = 0;
    reads = 0;
    asked = 0;
    round++;
  }

  /** How often `watch` was called: what came before counts no more. */
  int round() {
    return round;
  }

  /** How often a file ended while it was read straight into the watched array. */
  public int timesCutShort() {
    return cutShort;
  }

  /** How often a file ended before as many bytes as were asked for, into whatever array. */
  public int timesRunOut() {
    return ranOut;
  }

  /** How often anything was read. */
  public int timesRead() {
    return reads;
  }

  void ended(byte[] array) {
    ranOut++;
    if (array != null && array == watched) {
      cutShort++;
    }
  }

  void read() {
    reads++;
    LongBuffer shared = counter;
    if (shared != null) {
      shared.put(0, shared.get(0) + 1);
    }
  }

  @Override
  public Object get(Object key) {
    if (!(key instanceof String)) {
      return null;
    }
    if (++asked > MOST_ASKED) {
      throw new Endless("names of files are asked for over and over, which would never end");
    }
    String name = (String) key;
    Object mapped = others.get(name);
    if (mapped != null) {
      return mapped;
    }
    Source source = sources.get(name);
    if (source == null) {
      String objection = access.objection(name);
      if (objection != null) {
        return refuse(name, objection);
      }
      source = local ? onDisk(name) : null;
    }
    return source == null ? null : new Handle(source, this);
  }

  /**
   * Answers for a name that must not be opened: a name that no file can have, or null where Location
   * only asks what there is of that name; or ends the call of a reader that is about to open it.
   */
  private String refuse(String name, String objection) {
    boolean asked = isAsked();
    if (asked && !objection.equals(Access.URL)) {
      return null;
    }
    // Some readers look into whatever lies in a folder: a pipe there is passed over.
    boolean passed = objection.equals(Access.DEVICE);
    if (!asked && !detecting) {
      String refused = objection + ": " + name;
      if (!passed && refusal != null && name.contains(NO_FILE)) {
        // It was passed over under its own name before.
        refused = refusal;
      }
      if (!passed) {
        end(refused);
      }
      refusal = refusal == null ? refused : refusal;
      refusalPassed = true;
    }
    return NO_FILE + name;
  }

  /**
   * Ends the call if the data set that this thread works on may not open a file. For libraries that
   * open files by themselves.
   */
  static void require(String name) {
    if (Location.getIdMap() instanceof FileMap) {
      FileMap map = (FileMap) Location.getIdMap();
      String objection = map.access.objection(name);
      if (objection != null) {
        map.end(objection + ": " + name);
      }
    }
  }

  /** As `require`, for a file that is named in a way that no format needs. */
  static void refuseOther(String name) {
    if (Location.getIdMap() instanceof FileMap) {
      FileMap map = (FileMap) Location.getIdMap();
      if (!map.access.isEverywhere()) {
        map.end(Access.OUTSIDE + ": " + name);
      }
    }
  }

  /** Ends the call if a reader could open a file past this map that it may not open. */
  void requireBelow(String reader) throws IOException {
    String refused = access.firstRefusedBelow(reader);
    if (refused != null) {
      end(refused);
    }
  }

  private void end(String refused) {
    refusal = refused;
    refusalPassed = false;
    throw new Refused(refused);
  }

  private static boolean isAsked() {
    StackWalker.StackFrame caller = StackWalker.getInstance().walk(frames -> frames
        .filter(frame -> !frame.getClassName().equals(FileMap.class.getName()))
        .filter(frame -> !frame.getMethodName().startsWith("getMapped"))
        .findFirst()
        .orElse(null));
    return caller != null
        && caller.getClassName().equals("loci.common.Location")
        && (caller.getMethodName().equals("<init>") || caller.getMethodName().equals("exists"));
  }

  @Override
  public boolean containsKey(Object key) {
    return others.containsKey(key) || sources.containsKey(key);
  }

  /** What readers map themselves: parts of a file that are files of another format. */
  @Override
  public Object put(String key, Object value) {
    return others.put(key, value);
  }

  @Override
  public Object remove(Object key) {
    return others.remove(key);
  }

  @Override
  public Set<String> keySet() {
    Set<String> names = new LinkedHashSet<>(others.keySet());
    if (!local) {
      names.addAll(sources.keySet());
    }
    return names;
  }

  private Source onDisk(String name) {
    String lower = name.toLowerCase(Locale.ROOT);
    // Location decompresses these on its own. Not .zip: one without entries would hold it for ever,
    // and ZipReader wants the file as it is.
    if (lower.endsWith(".gz") || lower.endsWith(".bz2")) {
      return null;
    }
    File file = new File(name);
    if (!file.isFile()) {
      return null;
    }
    return sources.computeIfAbsent(name, key -> new LocalSource(file));
  }

  @Override
  public void close() {
    for (Source source : sources.values()) {
      source.close();
    }
    sources.clear();
    others.clear();
  }
}
