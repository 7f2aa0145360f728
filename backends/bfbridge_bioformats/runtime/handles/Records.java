package bfbridge;

import java.nio.charset.StandardCharsets;
import java.util.function.Supplier;
import loci.formats.IFormatReader;
import loci.formats.meta.MetadataRetrieve;
import ome.units.quantity.Length;
import ome.xml.model.primitives.Color;

/**
 * The description of all series of a reader, as JSON.
 *
 * A call from Python takes longer than most of these queries, and a file may have a thousand series.
 */
public final class Records {

  private final IFormatReader reader;
  private final MetadataRetrieve store;
  private final StringBuilder json = new StringBuilder();
  private String before = "";

  private Records(IFormatReader reader, MetadataRetrieve store) {
    this.reader = reader;
    this.store = store;
  }

  /** A list of series, in UTF-8; see records.py for the fields. */
  public static byte[] describe(IFormatReader reader, MetadataRetrieve store) {
    Records records = new Records(reader, store);
    records.all();
    return records.json.toString().getBytes(StandardCharsets.UTF_8);
  }

  private void all() {
    list(reader.getSeriesCount(), number -> {
      reader.setSeries(number);
      reader.setResolution(0);
      series(number);
    });
  }

  /** A file may have thousands of scenes that differ in name only: common values are sent once. */
  private void series(int number) {
    json.append("{\"name\":");
    text(ask(() -> store.getImageName(number)));
    int begin = json.length();
    kind(number);
    String kind = json.substring(begin);
    if (kind.equals(before)) {
      json.setLength(begin);
    }
    before = kind;
    json.append('}');
  }

  private void kind(int number) {
    int channels = reader.getEffectiveSizeC();
    int samples = reader.getRGBChannelCount();
    json.append(",\"type\":").append(reader.getPixelType());
    json.append(",\"little\":").append(reader.isLittleEndian());
    json.append(",\"samples\":").append(samples);
    json.append(",\"bits\":").append(reader.getBitsPerPixel());
    json.append(",\"thumbnail\":").append(reader.isThumbnailSeries());
    json.append(",\"order\":");
    text(reader.getDimensionOrder());
    json.append(",\"pixel_size\":[");
    length(ask(() -> store.getPixelsPhysicalSizeX(number)));
    json.append(',');
    length(ask(() -> store.getPixelsPhysicalSizeY(number)));
    json.append(',');
    length(ask(() -> store.getPixelsPhysicalSizeZ(number)));
    json.append("],\"channels\":");
    list(channels, channel -> channel(number, channel));
    json.append(",\"levels\":");
    list(reader.getResolutionCount(), this::level);
    reader.setResolution(0);
  }

  private void channel(int number, int channel) {
    json.append('[');
    text(ask(() -> store.getChannelName(number, channel)));
    json.append(',');
    color(ask(() -> store.getChannelColor(number, channel)));
    json.append(',');
    length(ask(() -> store.getChannelEmissionWavelength(number, channel)));
    json.append(',');
    length(ask(() -> store.getChannelExcitationWavelength(number, channel)));
    json.append(']');
  }

  private void level(int resolution) {
    reader.setResolution(resolution);
    int width = reader.getSizeX();
    int height = reader.getSizeY();
    json.append('[').append(width).append(',').append(height);
    json.append(',').append(reader.getSizeZ()).append(',').append(reader.getEffectiveSizeC());
    json.append(',').append(reader.getSizeT());
    // Readers divide by the size to compute their tiles.
    boolean empty = width < 1 || height < 1;
    json.append(',').append(empty ? 0 : reader.getOptimalTileWidth());
    json.append(',').append(empty ? 0 : reader.getOptimalTileHeight());
    // Levels of one series may differ (NDPIReader).
    json.append(',').append(reader.getRGBChannelCount() > 1 && reader.isInterleaved()).append(']');
  }

  private interface Item {
    void write(int number);
  }

  private void list(int count, Item item) {
    json.append('[');
    for (int number = 0; number < count; number++) {
      if (number > 0) {
        json.append(',');
      }
      item.write(number);
    }
    json.append(']');
  }

  /** For missing values, the store throws an exception in some formats and returns null in others. */
  private static <T> T ask(Supplier<T> get) {
    try {
      return get.get();
    } catch (NullPointerException | IndexOutOfBoundsException | IllegalArgumentException e) {
      return null;
    }
  }

  private void length(Length length) {
    if (length == null || length.value() == null) {
      json.append("null");
      return;
    }
    json.append('[').append(length.value().doubleValue()).append(',');
    text(length.unit().getSymbol());
    json.append(']');
  }

  private void color(Color color) {
    if (color == null) {
      json.append("null");
      return;
    }
    json.append('[').append(color.getRed()).append(',').append(color.getGreen());
    json.append(',').append(color.getBlue()).append(',').append(color.getAlpha()).append(']');
  }

  private void text(String text) {
    if (text == null) {
      json.append("null");
      return;
    }
    json.append('"');
    int plain = 0;
    while (plain < text.length() && isPlain(text.charAt(plain))) {
      plain++;
    }
    json.append(text, 0, plain);
    for (int i = plain; i < text.length(); i++) {
      char c = text.charAt(i);
      if (c == '"' || c == '\\') {
        json.append('\\').append(c);
      } else if (Character.isHighSurrogate(c)
          && i + 1 < text.length()
          && Character.isLowSurrogate(text.charAt(i + 1))) {
        json.append(c).append(text.charAt(++i));
      } else if (Character.isSurrogate(c)) {
        json.append('\ufffd');
      } else if (c < ' ') {
        json.append(String.format("\\u%04x", (int) c));
      } else {
        json.append(c);
      }
    }
    json.append('"');
  }

  private static boolean isPlain(char c) {
    return c >= ' ' && c < 0x7f && c != '"' && c != '\\';
  }
}
