package bfbridge;

import java.io.EOFException;
import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.ClosedChannelException;
import java.nio.channels.FileChannel;
import java.nio.file.StandardOpenOption;
import java.util.LinkedHashMap;
import java.util.Map;

/** A file on disk. Few are open at once, even if a data set has many. */
final class LocalSource implements Source {

  private static final int MOST_OPEN = 64;

  private static final Map<LocalSource, FileChannel> OPEN = new LinkedHashMap<>(16, 0.75f, true);

  private final File file;
  private final long length;

  LocalSource(File file) {
    this.file = file;
    length = file.length();
  }

  @Override
  public long length() {
    return length;
  }

  @Override
  public void read(long position, byte[] into, int offset, int count) throws IOException {
    ByteBuffer buffer = ByteBuffer.wrap(into, offset, count);
    while (buffer.hasRemaining()) {
      try {
        if (channel().read(buffer, position + buffer.position() - offset) < 0) {
          throw new EOFException(file + " became shorter while it was read");
        }
      } catch (ClosedChannelException e) {
        // Another thread closed this file because too many were open.
        continue;
      }
    }
  }

  private FileChannel channel() throws IOException {
    synchronized (OPEN) {
      FileChannel channel = OPEN.get(this);
      if (channel == null || !channel.isOpen()) {
        if (OPEN.size() >= MOST_OPEN) {
          OPEN.keySet().iterator().next().close();
        }
        channel = FileChannel.open(file.toPath(), StandardOpenOption.READ);
        OPEN.put(this, channel);
      }
      return channel;
    }
  }

  @Override
  public void close() {
    synchronized (OPEN) {
      FileChannel channel = OPEN.remove(this);
      if (channel != null) {
        try {
          channel.close();
        } catch (IOException e) {
          // Nothing was written, so no data are lost.
          return;
        }
      }
    }
  }
}
